"""Convert an upload in a sandbox process, and verify every file that the process leaves."""

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
from workers.sandbox.process import Limits, ProcessEnd, has_bubblewrap
from workers.sandbox.self_restriction import STOPPED

__all__ = ["Limits", "Report", "convert", "has_bubblewrap"]

logger = logging.getLogger(__name__)

_MOST_LOG = 20_000
_MOST_CHOICES = 16


@dataclass(frozen=True)
class Report:
    """Result of a conversion. After a refusal, `code` and `sentence` give the reason, and no file is left.

    Attributes:
        facts: the content of model.json.
        isolation: active layers: "bubblewrap", "network" (none within reach), "landlock" (only needed files
            are readable), "limits" and "hook".
        checks: passed checks, each with `name`, `ok` and `detail`.
        scans: advice of scanners, also after a refusal.
        choices: possible interpretations of the outputs, the one in use first. The owner confirms it.
        is_certain: whether no other choice is as likely as the first.
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

    Never raises because of the upload's content. After a refusal `out` is empty.

    Args:
        family: key of the family to use. Default: the first family that recognizes the weights.
        config: the uploaded `config.json`.
        scratch_in: parent of temporary folders. Default: the system's temporary folder.
    """
    limits = limits or Limits()
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ValueError(f"{out} is not empty.")
    started = time.monotonic()
    readable = {"path": path, **({} if config is None else {"config": config})}
    end = process.run(
        "workers.sandbox.entry_point",
        {"family": family},
        readable=readable,
        out=out,
        limits=limits,
        use_bubblewrap=use_bubblewrap,
        scratch_in=scratch_in,
    )
    # A file that used up its time gets no further time for a scan.
    scans: tuple[dict[str, Any], ...] = ()
    if not end.was_slow:
        scans = (picklescan.scan(path, use_bubblewrap=use_bubblewrap, scratch_in=scratch_in),)
    report = _conclude(out, end)
    if not report["ok"]:
        _empty(out)
    return Report(
        **report, isolation=end.isolation, scans=scans, seconds=round(time.monotonic() - started, 3)
    )


def _conclude(out: Path, end: ProcessEnd) -> dict[str, Any]:
    if end.was_slow:
        return _refuse("time", "The conversion took longer than its time limit.")
    if end.status == STOPPED:
        return _refuse("stopped", "The conversion tried a forbidden operation, so it was stopped.")
    if end.wrote_too_much:
        return _refuse("too_large", "The converted model is larger than the limit.")
    answer = process.read_json(out / REPORT)
    if end.status != 0 or not answer:
        return _refuse("crashed", "The conversion crashed. It may need more memory than it may use.")
    (out / REPORT).unlink(missing_ok=True)
    if answer.get("ok") is not True:
        _log(answer)
        return _refuse(
            process.read_text(answer, "code", 40) or "refused", process.read_text(answer, "sentence", 1000)
        )
    try:
        digest, facts = verify(out)
        choices = _Choices.model_validate({"choices": answer.get("choices", [])}).choices
    except (BundleError, OSError, ValidationError) as error:
        logger.warning("A conversion left an invalid model: %s", error)
        return _refuse("crashed", "The conversion did not produce a valid model.")
    return {
        "ok": True,
        "family": facts.family,
        "title": facts.title,
        "facts": facts.model_dump(mode="json", exclude={"architecture"}, exclude_none=True),
        "digest": digest,
        "checks": _checks(facts),
        "choices": tuple(choice.model_dump() for choice in choices),
        "is_certain": answer.get("is_certain") is True,
    }


class _Choices(BaseModel):
    model_config = ConfigDict(extra="forbid")

    choices: list[Choice] = Field(max_length=_MOST_CHOICES)


def _checks(facts: ModelFacts) -> tuple[dict[str, Any], ...]:
    difference = f"difference {facts.difference:.2g}, limit {facts.tolerance:.2g}"
    details = {
        "reading": "Read as data. No code from the file was run.",
        "rebuilding": "Rebuilt by this site’s own code. Every tensor was used.",
        "results": f"Both forms of the model give the same results: {difference}.",
        "files": "The written files match their digests.",
    }
    if facts.family == GRAPHS:
        del details["rebuilding"]
        details["results"] = f"The uploaded and the optimized graph give the same results: {difference}."
    return tuple({"name": name, "ok": True, "detail": detail} for name, detail in details.items())


def _refuse(code: str, sentence: str) -> dict[str, Any]:
    return {"ok": False, "code": code, "sentence": sentence or "These weights cannot be used."}


def _log(answer: Mapping[str, Any]) -> None:
    if log := process.read_text(answer, "log", _MOST_LOG):
        logger.warning("A conversion failed:\n%s", log)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
