"""Scan an upload with picklescan. The result is advice for people and never accepts or refuses a file.

picklescan reads pickles without running them, in a sandbox process.
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
_MOST_IMPORTS = 6
_MOST_NAME = 80
# First bytes of an ONNX file: the tags of its protobuf fields. No pickle starts with one of them.
_ONNX_STARTS = b"\x08\x0a\x12\x1a\x22\x3a\x42"


class _ScanReport(BaseModel):
    """Report of the scanner process. `dangerous` has the first of `dangerous_count` dangerous imports."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(pattern=r"^[0-9A-Za-z.+-]{1,20}$")
    dangerous: list[str] = Field(max_length=_MOST_IMPORTS)
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
    """Return `name`, `version`, `ok` (None: unknown) and `detail`, a sentence.

    Never raises because of the file's content.
    """
    if not _may_be_pickle(path):
        return _verdict("", None, f"{NAME} does not apply: this format stores no code.")
    if importlib.util.find_spec(NAME) is None:
        return _verdict("", None, f"{NAME} is not installed on the machine that converted the file.")
    with tempfile.TemporaryDirectory(prefix="ipau-scan-", dir=scratch_in) as folder:
        out = Path(folder)
        end = process.run(
            __name__,
            {},
            readable={"path": path},
            out=out,
            limits=limits,
            use_bubblewrap=use_bubblewrap,
            scratch_in=scratch_in,
        )
        report = process.read_json(out / _REPORT)
    try:
        return _judge(_ScanReport.model_validate(report))
    except ValidationError:
        why = "took too long to scan the file" if end.was_slow else "failed on the file"
        return _verdict("", None, f"{NAME} {why}, so there is no result.")


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


def _judge(report: _ScanReport) -> dict[str, Any]:
    title = f"{NAME} {report.version}"
    if report.dangerous_count:
        imports = ", ".join(show(name, _MOST_NAME) for name in report.dangerous)
        more = report.dangerous_count - len(report.dangerous)
        rest = f" and {more} more" if more > 0 else ""
        return _verdict(report.version, False, f"{title} found dangerous imports: {imports}{rest}.")
    if not report.is_whole:
        return _verdict(report.version, None, f"{title} cannot read the file to its end.")
    unknown = f"; {report.unknown_count} unknown to it" if report.unknown_count else ""
    return _verdict(report.version, True, f"{title}: no dangerous imports{unknown}.")


def _verdict(version: str, ok: bool | None, detail: str) -> dict[str, Any]:
    return {"name": NAME, "version": version, "ok": ok, "detail": detail}


def _scan(path: Path) -> Mapping[str, Any]:
    from importlib.metadata import version

    from picklescan.scanner import SafetyLevel, scan_bytes

    with path.open("rb") as stream:
        result = scan_bytes(stream, "the upload", ".pt")
    by_level: dict[Any, list[str]] = {level: [] for level in SafetyLevel}
    for one in result.globals:
        by_level[one.safety].append(f"{one.module}.{one.name}"[:_MOST_NAME])
    dangerous = sorted(set(by_level[SafetyLevel.Dangerous]))
    return {
        "version": version(NAME),
        "dangerous": dangerous[:_MOST_IMPORTS],
        "dangerous_count": len(dangerous),
        "unknown_count": len(set(by_level[SafetyLevel.Suspicious])),
        "is_whole": not result.scan_err,
    }
