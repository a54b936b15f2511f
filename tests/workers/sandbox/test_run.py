"""Sandboxed conversions: their reports, forbidden operations, and verification of their output."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workers.checkpoints.attacks import write_attacks
from tests.workers.families.onnx.test_family import trace
from tests.workers.families.yolo.checkpoints import TINY, make_model, save
from tests.workers.sandbox.slow_graphs import KINDS, slow_graph
from workers import bundle
from workers.isolation.process import NICENESS
from workers.sandbox import run
from workers.sandbox.self_restriction import STOPPED

ROOT = Path(__file__).resolve().parents[3]


def landlock_version() -> int:
    """Return the kernel's Landlock ABI version, below 1 for none."""
    version: int = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)
    return version


NEEDS_BUBBLEWRAP = pytest.mark.skipif(
    not run.has_bubblewrap(), reason="no bubblewrap that works on this machine"
)
WALLS = [pytest.param(True, id="bubblewrap", marks=NEEDS_BUBBLEWRAP), pytest.param(False, id="plain")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(make_model(TINY), tmp_path_factory.mktemp("checkpoint") / "tiny.pt")


@pytest.fixture(scope="module")
def converted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, run.Report]:
    out = tmp_path_factory.mktemp("model")
    return out, run.convert(checkpoint, out, use_bubblewrap=False)


def test_a_checkpoint_becomes_three_files(converted: tuple[Path, run.Report]) -> None:
    out, report = converted
    assert report.ok, report
    assert sorted(os.listdir(out)) == ["model.json", "model.onnx", "weights.safetensors"]
    assert (report.family, report.title) == ("yolo", "YOLO11 detector")
    assert report.facts["classes"] == ["cat", "dog"]
    assert report.digest == bundle.FolderModel(out).key
    assert report.isolation["limits"]
    assert report.isolation["hook"]
    assert not report.isolation["bubblewrap"]
    assert [check["name"] for check in report.checks] == ["reading", "rebuilding", "results", "files"]
    assert json.loads(json.dumps(report.as_json()))["digest"] == report.digest


def test_the_report_of_a_graph_has_no_rebuilding_check(tmp_path: Path) -> None:
    from torch import nn

    (tmp_path / "soften.onnx").write_bytes(trace(nn.Conv2d(3, 3, 3, padding=1), 64, 64))
    report = run.convert(tmp_path / "soften.onnx", tmp_path / "out", use_bubblewrap=False)
    assert (report.ok, report.facts["task"]) == (True, "image"), report
    assert [check["name"] for check in report.checks] == ["reading", "results", "files"]
    assert "The uploaded and the optimized graph give the same results" in report.checks[1]["detail"]
    assert report.title == report.facts["title"] == "ONNX image generator"


@NEEDS_BUBBLEWRAP
def test_bubblewrap_gives_the_same_digest(
    checkpoint: Path, converted: tuple[Path, run.Report], tmp_path: Path
) -> None:
    report = run.convert(checkpoint, tmp_path)
    assert report.ok, report
    assert report.digest == converted[1].digest
    assert report.isolation == {
        "bubblewrap": True,
        "network": True,
        "landlock": landlock_version() > 0,
        "limits": True,
        "hook": True,
    }


@pytest.mark.parametrize("wrap", WALLS)
def test_a_refusal_leaves_nothing(wrap: bool, tmp_path: Path) -> None:
    marker, out = tmp_path / "was_here", tmp_path / "out"
    (tmp_path / "evil.pt").write_bytes(write_attacks(str(marker), 0)["run_os_system"][0])
    report = run.convert(tmp_path / "evil.pt", out, use_bubblewrap=wrap)
    assert (report.ok, report.code) == (False, "unsafe")
    assert "posix.system" in report.sentence
    assert report.isolation["bubblewrap"] is wrap
    assert list(out.iterdir()) == []
    assert not marker.exists()


def test_weights_of_no_family(tmp_path: Path) -> None:
    import torch

    torch.save({"something": torch.zeros(3)}, tmp_path / "unknown.pt")
    report = run.convert(tmp_path / "unknown.pt", tmp_path / "out", use_bubblewrap=False)
    assert (report.ok, report.code) == (False, "unknown")
    assert "YOLO" in report.sentence


def test_an_unknown_family_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    report = run.convert(checkpoint, tmp_path / "out", family="nothing", use_bubblewrap=False)
    assert report.code == "family"
    assert report.sentence == "There is no family called “nothing”. Choose one of: gan, onnx, vit, yolo."


def test_exceeding_the_memory_limit_is_a_refusal(checkpoint: Path, tmp_path: Path) -> None:
    limits = run.Limits(memory=400 * 1024**2)
    report = run.convert(checkpoint, tmp_path / "out", limits=limits, use_bubblewrap=False)
    assert not report.ok
    assert report.code in ("memory", "crashed", "failed")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("wrap", WALLS)
def test_exceeding_the_wall_time_is_a_refusal(wrap: bool, checkpoint: Path, tmp_path: Path) -> None:
    limits = run.Limits(wall=0.5)
    report = run.convert(checkpoint, tmp_path / "out", limits=limits, use_bubblewrap=wrap)
    assert (report.ok, report.code) == (False, "time")
    assert report.seconds < 10
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_small_file_that_is_slow_is_stopped(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "slow.onnx"
    path.write_bytes(slow_graph(kind))
    assert path.stat().st_size < 96 * 1024
    report = run.convert(path, tmp_path / "out", limits=run.Limits(wall=5, cpu=5))
    assert (report.ok, report.code) == (False, "time"), report
    # The scan is skipped.
    assert (report.scans, report.seconds < 8) == ((), True)


def test_exceeding_the_cpu_time_is_a_refusal(checkpoint: Path, tmp_path: Path) -> None:
    report = run.convert(checkpoint, tmp_path / "out", limits=run.Limits(cpu=3), use_bubblewrap=False)
    assert (report.ok, report.code) == (False, "time")


def test_out_must_be_empty(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="not empty"):
        run.convert(checkpoint, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"


# --- Operations that code inside the sandbox cannot do.

RESTRICTED = """
import ctypes, os, pathlib, pickle, shutil, socket, struct, subprocess, sys
sys.path.insert(0, sys.argv[1])
from workers.sandbox.self_restriction import restrict
folder, port = pathlib.Path(sys.argv[2]), int(sys.argv[3])
limits = dict(memory=2**30, cpu=20, file=10**6, open=64)
needed = [sys.prefix, sys.base_prefix, sys.argv[1] + "/workers"]
achieved = restrict((folder,), limits, readable=needed, is_wrapped=False)
(folder / "inside").write_text("this is allowed")
exec(sys.argv[4])
print("went on", achieved)
"""
FORBIDDEN = {
    "socket": "socket.create_connection(('127.0.0.1', port))",
    "program": "subprocess.run(['touch', '/tmp/x'])",
    "system": "os.system('true')",
    "fork": "os.fork()",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "exec": "os.execv('/bin/true', ['true'])",
    "write": "open(folder.parent / 'outside', 'w')",
    "write_by_link": "open(folder / '..' / 'outside', 'w')",
    "low_write": "os.open(folder.parent / 'outside', os.O_CREAT | os.O_WRONLY)",
    "remove": "os.remove(folder.parent / 'victim')",
    "move": "shutil.move(folder.parent / 'victim', folder)",
    "link": "os.symlink('/etc/passwd', folder / 'link')",
    "unpickle": "pickle.loads(pickle.dumps(pathlib.Path))",
    "kill": "os.kill(os.getppid(), 0)",
}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening


def _do(code: str, folder: Path, port: int = 1) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-B", "-c", RESTRICTED, str(ROOT), str(folder), str(port), code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    (tmp_path / "victim").write_text("alive")
    (tmp_path / "cell").mkdir()
    return tmp_path / "cell"


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_forbidden_operations_end_the_process(name: str, cell: Path, listener: socket.socket) -> None:
    done = _do(FORBIDDEN[name], cell, listener.getsockname()[1])
    assert done.returncode == STOPPED, done
    assert "went on" not in done.stdout
    assert sorted(os.listdir(cell.parent)) == ["cell", "victim"]
    assert os.listdir(cell) == ["inside"]
    with pytest.raises(BlockingIOError):
        listener.accept()


PRIORITIES = """
import json, os, pathlib, sys
sys.path.insert(0, sys.argv[1])
from workers.sandbox import self_restriction
self_restriction.begin(json.loads(sys.argv[2]))
print(pathlib.Path("/proc/self/oom_score_adj").read_text().strip(), os.nice(0))
"""


def test_the_sandbox_has_low_cpu_and_memory_priority(cell: Path) -> None:
    order = {
        "out": str(cell),
        "scratch": str(cell),
        "readable": [],
        "interpreter": [sys.prefix, sys.base_prefix, str(ROOT / "workers")],
        "limits": {"memory": 2**30, "cpu": 20, "file": 10**6, "open": 64},
        "wrapped": False,
    }
    command = [sys.executable, "-I", "-B", "-c", PRIORITIES, str(ROOT), json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["1000", str(NICENESS + os.nice(0))], done


def test_limits_hold(cell: Path) -> None:
    assert "MemoryError" in _do("bytes(2 * 2**30)", cell).stderr
    assert "File too large" in _do("(folder / 'inside').write_bytes(bytes(10**7))", cell).stderr
    assert "Too many open files" in _do("found = [open('/dev/null') for _ in range(100)]", cell).stderr


def test_the_c_library_has_no_network(cell: Path, listener: socket.socket) -> None:
    """Calls of the C library bypass the audit hook, but not the empty network namespace."""
    port = listener.getsockname()[1]
    code = (
        "libc = ctypes.CDLL(None, use_errno=True); end = libc.socket(2, 1, 0); "
        "where = struct.pack('!HH4s8x', socket.htons(2), port, bytes([127, 0, 0, 1])); "
        "print('answer', libc.connect(end, where, 16), ctypes.get_errno())"
    )
    done = _do(code, cell, port)
    if "'network': False" in done.stdout:
        pytest.skip("the kernel allows no network namespaces")
    assert "answer -1" in done.stdout, done
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(
    ("path", "flags"), [("victim", os.O_RDONLY), ("victim", os.O_WRONLY), ("new", 0o101)]
)
def test_the_c_library_has_no_files(path: str, flags: int, cell: Path) -> None:
    code = (
        f"libc = ctypes.CDLL(None, use_errno=True); path = os.fsencode(folder.parent / {path!r}); "
        f"print('answer', libc.open(path, {flags}, 0o600), ctypes.get_errno())"
    )
    done = _do(code, cell)
    if "'landlock': False" in done.stdout:
        pytest.skip("this machine's kernel has no Landlock")
    assert f"answer -1 {errno.EACCES}" in done.stdout, done
    assert not (cell.parent / "new").exists()


# --- Files that a compromised process could leave.


def _replace_with_link(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("/etc/passwd")


def _replace_with_pipe(folder: Path) -> None:
    (folder / "model.json").unlink()
    os.mkfifo(folder / "model.json")


def _add_hard_link(folder: Path) -> None:
    os.link(folder / "model.onnx", folder.parent / "other")


def _change_bytes(folder: Path) -> None:
    with (folder / "weights.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\xff")


def _change_facts(folder: Path, **facts: Any) -> None:
    before = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**before, **facts}))


def _swap_graph(folder: Path) -> None:
    evil = write_attacks("", 0)["onnx_custom_operator"][0]
    (folder / "model.onnx").write_bytes(evil)
    files = json.loads((folder / "model.json").read_text())["files"]
    files["model.onnx"] = {"sha256": hashlib.sha256(evil).hexdigest(), "size": len(evil)}
    _change_facts(folder, files=files)


MODIFICATIONS = {
    "link": _replace_with_link,
    "pipe": _replace_with_pipe,
    "second_name": _add_hard_link,
    "other_bytes": _change_bytes,
    "graph_of_its_own": _swap_graph,
    "file_too_many": lambda folder: (folder / "extra").write_text("x"),
    "file_too_few": lambda folder: (folder / "model.onnx").unlink(),
    "no_json": lambda folder: (folder / "model.json").write_text("{"),
    "deep_json": lambda folder: (folder / "model.json").write_text("[" * 100_000),
    "unknown_fact": lambda folder: _change_facts(folder, price=7),
    "fact_of_another_type": lambda folder: _change_facts(folder, classes="cat"),
    "class_with_nul": lambda folder: _change_facts(folder, classes=["cat", "d\0g"]),
    "class_with_half_a_character": lambda folder: _change_facts(folder, classes=["cat", "\ud800"]),
    "class_too_long": lambda folder: _change_facts(folder, classes=["cat", "d" * 10_000]),
    "title_that_turns_around": lambda folder: _change_facts(folder, title="\u202eYOLO"),
    "huge_picture": lambda folder: _change_facts(folder, input={"width": 10**9, "height": 1, "channels": 3}),
    "path_as_a_name": lambda folder: _change_facts(folder, files={"../x": {"sha256": "0" * 64, "size": 1}}),
}


@pytest.mark.parametrize("name", sorted(MODIFICATIONS))
def test_a_modified_model_is_rejected(name: str, converted: tuple[Path, run.Report], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for path in converted[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    bundle.verify(folder)
    MODIFICATIONS[name](folder)
    with pytest.raises(bundle.BundleError):
        bundle.verify(folder)
