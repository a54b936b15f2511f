"""Converting an upload in a process that can do nothing else, and believing nothing of what it left."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.bundle import GRAPHS, BundleError, Choice, ModelFacts, verify
from workers.sandbox import picklescan, process
from workers.sandbox.entry_point import REPORT
from workers.sandbox.process import Ended, Limits, has_bubblewrap
from workers.sandbox.self_restriction import STOPPED

__all__ = ["Limits", "Report", "convert", "has_bubblewrap"]

logger = logging.getLogger(__name__)

_MOST_LOG = 20_000
_MOST_CHOICES = 16


@dataclass(frozen=True)
class Report:
    """What became of an upload. Where it was refused, `code` and `sentence` say why, and nothing was kept.

    `facts` are those of model.json. `isolation` says which walls stood: "bubblewrap", "network" (none was
    within reach), "landlock" (it could read nothing but what it needs), "limits", "hook". `checks` are what
    was found right, each with `name`, `ok` and `detail`; `scans` what scanners advise, whatever became of it.
    `choices` are the ways in which its outputs may be read, where its owner has to say whether the first is
    right; `is_certain` says that no other is as likely.
    """

    ok: bool
    code: str = ""
    sentence: str = ""
    family: str = ""
    title: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    checks: tuple[dict[str, Any], ...] = ()
    isolation: dict[str, bool] = field(default_factory=dict)
    seconds: float = 0.0
    scans: tuple[dict[str, Any], ...] = ()
    choices: tuple[dict[str, Any], ...] = ()
    is_certain: bool = True

    def as_json(self) -> dict[str, Any]:
        lists = {name: list(getattr(self, name)) for name in ("checks", "scans", "choices")}
        return {**asdict(self), **lists}


def convert(
    path: Path,
    out: Path,
    *,
    family: str | None = None,
    config: Path | None = None,
    limits: Limits | None = None,
    use_bubblewrap: bool = True,
    scratch_in: Path | None = None,
) -> Report:
    """Convert an upload into three files in the folder `out`, which must be empty or missing.

    Never raises for what the upload is or does. After a refusal `out` is empty.

    Args:
        family: the key of the one family that is asked; by default the first that knows the weights.
        config: the `config.json` that was sent along.
        scratch_in: where folders for temporary files are made; by default where the system has them.
    """
    limits = limits or Limits()
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ValueError(f"{out} is not empty.")
    started = time.monotonic()
    readable = {"path": path, **({} if config is None else {"config": config})}
    ended = process.run(
        "workers.sandbox.entry_point",
        {"family": family},
        readable=readable,
        out=out,
        limits=limits,
        use_bubblewrap=use_bubblewrap,
        scratch_in=scratch_in,
    )
    # What takes too long is not looked at for still longer.
    scans: tuple[dict[str, Any], ...] = ()
    if not ended.was_slow:
        scans = (picklescan.scan(path, use_bubblewrap=use_bubblewrap, scratch_in=scratch_in),)
    report = _conclude(out, ended)
    if not report["ok"]:
        _empty(out)
    return Report(
        **report, isolation=ended.isolation, scans=scans, seconds=round(time.monotonic() - started, 3)
    )


def _conclude(out: Path, ended: Ended) -> dict[str, Any]:
    if ended.was_slow:
        return _refuse("time", "It takes longer to convert than a conversion may.")
    if ended.status == STOPPED:
        return _refuse("stopped", "Its conversion tried to do what no conversion does, and was stopped.")
    if ended.wrote_too_much:
        return _refuse("too_large", "What it converts into is larger than a model may be.")
    said = process.read_json(out / REPORT)
    if ended.status != 0 or not said:
        return _refuse("crashed", "Its conversion broke down: it may need more memory than it may take.")
    (out / REPORT).unlink(missing_ok=True)
    if said.get("ok") is not True:
        _log(said)
        return _refuse(
            process.read_text(said, "code", 40) or "refused", process.read_text(said, "sentence", 1000)
        )
    try:
        digest, facts = verify(out)
        choices = _Choices.model_validate({"choices": said.get("choices", [])}).choices
    except (BundleError, OSError, ValidationError) as error:
        logger.warning("A conversion left what is no model: %s", error)
        return _refuse("crashed", "Its conversion did not end with a model that can be used.")
    return {
        "ok": True,
        "family": facts.family,
        "title": facts.title,
        "facts": facts.model_dump(mode="json", exclude={"architecture"}, exclude_none=True),
        "digest": digest,
        "checks": _checks(facts),
        "choices": tuple(choice.model_dump() for choice in choices),
        "is_certain": said.get("is_certain") is True,
    }


class _Choices(BaseModel):
    model_config = ConfigDict(extra="forbid")

    choices: list[Choice] = Field(max_length=_MOST_CHOICES)


def _checks(facts: ModelFacts) -> tuple[dict[str, Any], ...]:
    apart = f"{facts.difference:.2g} apart, {facts.tolerance:.2g} allowed"
    found = {
        "reading": "Read as data: nothing in the file was run.",
        "rebuilding": "Rebuilt by this site’s own code; every tensor has its place.",
        "results": f"Both forms of the model give the same: {apart}.",
        "files": "The files written are those that their digests name.",
    }
    if facts.family == GRAPHS:
        del found["rebuilding"]
        found["results"] = f"The graph gives the same as uploaded and as rearranged for speed: {apart}."
    return tuple({"name": name, "ok": True, "detail": detail} for name, detail in found.items())


def _refuse(code: str, sentence: str) -> dict[str, Any]:
    return {"ok": False, "code": code, "sentence": sentence or "These weights are not taken."}


def _log(said: Mapping[str, Any]) -> None:
    if log := process.read_text(said, "log", _MOST_LOG):
        logger.warning("A conversion failed:\n%s", log)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
