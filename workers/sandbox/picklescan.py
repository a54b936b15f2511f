"""What picklescan says of an upload: advice for people, never what lets a file in or keeps it out.

It reads pickles without running them, in a process of its own that can do nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.checkpoints.upload import show
from workers.sandbox import process, self_restriction
from workers.sandbox.process import Limits

NAME = "picklescan"
BOUNDS = Limits(memory=2 * 1024**3, cpu=30, wall=60, file=1024**2)
_REPORT = "scan.json"
_MOST_NAMED = 6
_MOST_NAME = 80
# The fields of an ONNX model, one of which such a file begins with. No pickle begins so.
_ONNX_STARTS = b"\x08\x0a\x12\x1a\x22\x3a\x42"


class _ScanReport(BaseModel):
    """What the process said. `dangerous` are the first imports that it warns of, of so many."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(pattern=r"^[0-9A-Za-z.+-]{1,20}$")
    dangerous: list[str] = Field(max_length=_MOST_NAMED)
    dangerous_count: int = Field(ge=0)
    unknown_count: int = Field(ge=0)
    is_whole: bool


def scan(
    path: Path,
    *,
    limits: Limits = BOUNDS,
    use_bubblewrap: bool = True,
    scratch_in: Path | None = None,
) -> dict[str, Any]:
    """Return `name`, `version`, `ok` (None: nothing is known) and `detail`, a sentence.

    Never raises for what the file is.
    """
    if not _may_be_pickle(path):
        return _tell("", None, f"{NAME} does not apply: the format holds numbers alone.")
    if importlib.util.find_spec(NAME) is None:
        return _tell("", None, f"{NAME} is not installed on the machine that converted it.")
    with tempfile.TemporaryDirectory(prefix="ipau-scan-", dir=scratch_in) as place:
        out = Path(place)
        ended = process.run(
            __name__,
            {},
            readable={"path": path},
            out=out,
            limits=limits,
            use_bubblewrap=use_bubblewrap,
            scratch_in=scratch_in,
        )
        found = process.read_json(out / _REPORT)
    try:
        return _judge(_ScanReport.model_validate(found))
    except ValidationError:
        why = "takes too long over it" if ended.was_slow else "breaks down over it"
        return _tell("", None, f"{NAME} {why}, so it says nothing.")


def main(arguments: Sequence[str]) -> int:
    """Scan one upload. `arguments` is one JSON object: see `workers.sandbox.process`."""
    order = json.loads(arguments[0])
    self_restriction.begin(order)
    report = _scan(Path(order["path"]))
    (Path(order["out"]) / _REPORT).write_text(json.dumps(report))
    return 0


def _may_be_pickle(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(9)
    return head[8:9] != b"{" and not (head and head[0] in _ONNX_STARTS)


def _judge(said: _ScanReport) -> dict[str, Any]:
    title = f"{NAME} {said.version}"
    if said.dangerous_count:
        named = ", ".join(show(name, _MOST_NAME) for name in said.dangerous)
        more = said.dangerous_count - len(said.dangerous)
        rest = f" and {more} more" if more > 0 else ""
        return _tell(said.version, False, f"{title} warns of imports: {named}{rest}.")
    if not said.is_whole:
        return _tell(said.version, None, f"{title} cannot read it to its end.")
    unknown = f"; {said.unknown_count} that it does not know" if said.unknown_count else ""
    return _tell(said.version, True, f"{title}: no dangerous imports{unknown}.")


def _tell(version: str, ok: bool | None, detail: str) -> dict[str, Any]:
    return {"name": NAME, "version": version, "ok": ok, "detail": detail}


def _scan(path: Path) -> Mapping[str, Any]:
    from importlib.metadata import version

    from picklescan.scanner import SafetyLevel, scan_bytes

    with path.open("rb") as stream:
        found = scan_bytes(stream, "the upload", ".pt")
    by_level: dict[Any, list[str]] = {level: [] for level in SafetyLevel}
    for one in found.globals:
        by_level[one.safety].append(f"{one.module}.{one.name}"[:_MOST_NAME])
    dangerous = sorted(set(by_level[SafetyLevel.Dangerous]))
    return {
        "version": version(NAME),
        "dangerous": dangerous[:_MOST_NAMED],
        "dangerous_count": len(dangerous),
        "unknown_count": len(set(by_level[SafetyLevel.Suspicious])),
        "is_whole": not found.scan_err,
    }
