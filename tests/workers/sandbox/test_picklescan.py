"""What picklescan advises: in a process of its own, running nothing, whatever became of the upload."""

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
# Of an attack that is refused, what the scan says of it. The second shows why it decides nothing.
SAID: dict[str, tuple[bool | None, str]] = {
    "run_os_system": (False, "warns of imports: posix.system."),
    "run_torch_hub": (True, "no dangerous imports; 1 that it does not know."),
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


@pytest.mark.parametrize("name", sorted(SAID))
def test_a_refused_file_also_tells_the_scan(name: str, zoo: Path, tmp_path: Path) -> None:
    report = sandbox.convert(zoo / name, tmp_path / "out", use_bubblewrap=False)
    assert not report.ok
    (told,) = report.scans
    assert told["name"] == "picklescan"
    ok, text = SAID[name]
    assert text in told["detail"], told
    assert told["ok"] is ok
    assert list((tmp_path / "out").iterdir()) == []
    assert not (zoo.parent / "was_here").exists()


@pytest.mark.parametrize("wrap", WALLS)
def test_a_clean_checkpoint_is_told_clean(wrap: bool, tmp_path: Path) -> None:
    path = save(make_model(TINY), tmp_path / "tiny.pt")
    told = scan(path, use_bubblewrap=wrap)
    assert (told["ok"], told["version"]) == (True, version("picklescan"))
    assert told["detail"].startswith(f"{TITLE}: no dangerous imports; ")


def test_formats_without_code_need_no_scan(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes())
    told = scan(tmp_path / "a.safetensors")
    assert (told["ok"], told["detail"]) == (
        None,
        "picklescan does not apply: the format holds numbers alone.",
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
# What is imported on the way is, before anybody looks.
_scan(next(path for path in paths if path.name == 'archive_big_endian'))
sys.addaudithook(watch)
for path in paths:
    events.clear()
    try:
        said = _scan(path)
    except Exception as error:
        said = {"broke": type(error).__name__}
    found[path.name] = {**said, "events": list(events)}
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
    found: dict[str, Any] = json.loads(done.stdout)
    assert len(found) > 100
    assert {name: said["events"] for name, said in found.items() if said["events"]} == {}
    assert not (zoo.parent / "was_here").exists()
    with pytest.raises(BlockingIOError):
        listener.accept()
    # It is no dummy: it knows most of what would run code. That it misses some is why it is no gate.
    warned = [name for name, said in found.items() if said.get("dangerous_count")]
    assert len([name for name in warned if name.startswith("run_")]) > 20


# --- It is advice, bounded, and not believed.


def test_one_that_takes_too_long_says_nothing(zoo: Path) -> None:
    told = scan(zoo / "run_eval", limits=process.Limits(wall=0.05), use_bubblewrap=False)
    assert (told["ok"], told["detail"]) == (None, "picklescan takes too long over it, so it says nothing.")


@pytest.mark.parametrize(
    "said",
    [
        "{}",
        "[" * 100_000,
        '{"version": "<b>", "dangerous": [], "dangerous_count": 0, "unknown_count": 0, "is_whole": true}',
        '{"version": "1", "dangerous": [7], "dangerous_count": 1, "unknown_count": 0, "is_whole": true}',
    ],
)
def test_what_it_left_is_not_believed(said: str, zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(program: str, order: object, *, out: Path, **_: Any) -> process.Ended:
        (out / "scan.json").write_text(said)
        return process.Ended(0, {})

    monkeypatch.setattr(process, "run", run)
    told = scan(zoo / "run_eval")
    assert told["detail"] == "picklescan breaks down over it, so it says nothing."


def test_a_machine_without_it_says_so(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picklescan, "NAME", "nonesuch_scanner")
    assert scan(zoo / "run_eval")["detail"].startswith("nonesuch_scanner is not installed")
