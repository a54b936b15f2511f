"""picklescan: results for accepted and refused uploads, isolation, and verification of its report."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.workers.checkpoints.attacks import write_attacks
from tests.workers.checkpoints.weights_files import safetensors_bytes
from tests.workers.families.yolo.checkpoints import TINY, make_model, save
from tests.workers.sandbox.test_run import WALLS
from workers.sandbox import picklescan, process
from workers.sandbox import run as sandbox
from workers.sandbox.picklescan import scan

TITLE = f"picklescan {version('picklescan')}"
# Scan results of refused attacks. picklescan misses the second, so its result is only advice.
RESULTS: dict[str, tuple[bool | None, str]] = {
    "run_os_system": (False, "found dangerous imports: posix.system."),
    "run_torch_hub": (True, "no dangerous imports; 1 unknown to it."),
    "onnx_custom_operator": (None, "does not apply"),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory, listener: socket.socket) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    marker = folder.parent / "was_here"
    for name, (content, _) in write_attacks(str(marker), listener.getsockname()[1]).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_the_report_of_a_refused_file_has_the_scan(name: str, zoo: Path, tmp_path: Path) -> None:
    report = sandbox.convert(zoo / name, tmp_path / "out", use_bubblewrap=False)
    assert not report.ok
    (result,) = report.scans
    assert result["name"] == "picklescan"
    ok, text = RESULTS[name]
    assert text in result["detail"], result
    assert result["ok"] is ok
    assert list((tmp_path / "out").iterdir()) == []
    assert not (zoo.parent / "was_here").exists()


@pytest.mark.parametrize("wrap", WALLS)
def test_a_clean_checkpoint_passes_the_scan(wrap: bool, tmp_path: Path) -> None:
    path = save(make_model(TINY), tmp_path / "tiny.pt")
    result = scan(path, use_bubblewrap=wrap)
    assert (result["ok"], result["version"]) == (True, version("picklescan"))
    assert result["detail"].startswith(f"{TITLE}: no dangerous imports; ")


def test_formats_without_code_need_no_scan(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes())
    result = scan(tmp_path / "a.safetensors")
    assert (result["ok"], result["detail"]) == (
        None,
        "picklescan does not apply: this format stores no code.",
    )


SCAN_ALL = """
import json, resource, sys
from pathlib import Path
import numpy, picklescan.scanner, http.client
from workers.sandbox.picklescan import _scan
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
events, found = [], {}
def watch(event, arguments):
    if event.startswith(("pickle.", "subprocess.", "socket.", "os.", "exec", "pty.", "ctypes.")):
        if event not in ("os.listdir", "os.scandir"):
            events.append(event)
paths = sorted(Path(sys.argv[1]).iterdir())
# The first scan imports modules, so it runs before the audit hook.
_scan(next(path for path in paths if path.name == 'archive_big_endian'))
sys.addaudithook(watch)
for path in paths:
    events.clear()
    try:
        report = _scan(path)
    except Exception as error:
        report = {"broke": type(error).__name__}
    found[path.name] = {**report, "events": list(events)}
print(json.dumps(found))
"""


def test_scanning_the_zoo_runs_nothing(zoo: Path, listener: socket.socket) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCAN_ALL, str(zoo)],
        capture_output=True,
        check=True,
        timeout=300,
        cwd=Path(__file__).resolve().parents[3],
    )
    reports: dict[str, Any] = json.loads(done.stdout)
    assert len(reports) > 100
    assert {name: report["events"] for name, report in reports.items() if report["events"]} == {}
    assert not (zoo.parent / "was_here").exists()
    with pytest.raises(BlockingIOError):
        listener.accept()
    # It finds most attacks that run code. It misses some, so it does not decide.
    warned = [name for name, report in reports.items() if report.get("dangerous_count")]
    assert len([name for name in warned if name.startswith("run_")]) > 20


# --- Limits, and verification of its report.


def test_a_scan_that_takes_too_long_has_no_result(zoo: Path) -> None:
    result = scan(zoo / "run_eval", limits=process.Limits(wall=0.05), use_bubblewrap=False)
    assert (result["ok"], result["detail"]) == (
        None,
        "picklescan took too long to scan the file, so there is no result.",
    )


@pytest.mark.parametrize(
    "report",
    [
        "{}",
        "[" * 100_000,
        '{"version": "<b>", "dangerous": [], "dangerous_count": 0, "unknown_count": 0, "is_whole": true}',
        '{"version": "1", "dangerous": [7], "dangerous_count": 1, "unknown_count": 0, "is_whole": true}',
    ],
)
def test_an_invalid_report_gives_no_result(report: str, zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(program: str, order: object, *, out: Path, **_: Any) -> process.ProcessEnd:
        (out / "scan.json").write_text(report)
        return process.ProcessEnd(0, {})

    monkeypatch.setattr(process, "run", run)
    assert scan(zoo / "run_eval")["detail"] == "picklescan failed on the file, so there is no result."


def test_a_machine_without_picklescan_says_so(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picklescan, "NAME", "nonesuch_scanner")
    assert scan(zoo / "run_eval")["detail"].startswith("nonesuch_scanner is not installed")
