"""Every attack is refused with a sentence and does nothing: no code runs, nothing is written or reached."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workers.checkpoints.attacks import write_attacks
from tests.workers.checkpoints.audited_reader import MOST_MEMORY
from tests.workers.checkpoints.weights_files import safetensors_with_a_header_of
from workers.checkpoints.open import open_upload

CODES = {name: code for name, (_, code) in write_attacks("", 0).items()}


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marks") / "was_here"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, listener: socket.socket, marker: Path) -> dict[str, Any]:
    """Have all of them opened in one process, and return what became of them."""
    folder = tmp_path_factory.mktemp("attacks")
    for name, (content, _) in write_attacks(str(marker), listener.getsockname()[1]).items():
        (folder / name).write_bytes(content)
    command = [sys.executable, "-m", "tests.workers.checkpoints.audited_reader", str(folder)]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_begins_as_a_pickle_by_chance_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_with_a_header_of(640))
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert open_upload(path).format == "safetensors"


def test_there_are_many() -> None:
    assert len(CODES) > 100


@pytest.mark.parametrize("name", sorted(CODES))
def test_refused(name: str, judged: dict[str, Any]) -> None:
    verdict = judged["verdicts"][name]
    assert verdict["code"] == CODES[name], verdict
    assert verdict["sentence"].endswith(".")
    assert verdict["events"] == []
    assert verdict["seconds"] < 20
    assert verdict["peak"] < MOST_MEMORY / 2


def test_nothing_ran(judged: dict[str, Any], marker: Path, listener: socket.socket) -> None:
    assert len(judged["verdicts"]) == len(CODES)
    assert not marker.exists()
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_no_library_was_needed(judged: dict[str, Any]) -> None:
    """What reads hostile files has no torch, no pickle machine of Python's and no libraries in its hands."""
    heavy = {"torch", "ultralytics", "onnx", "onnxruntime", "safetensors", "numpy", "this"}
    assert not heavy & set(judged["modules"])


def test_the_zoo_bites(tmp_path: Path) -> None:
    """The marks are no dummies: Python's own unpickler leaves one."""
    marker = tmp_path / "was_here"
    content = write_attacks(str(marker), 0)["run_open"][0]
    code = (
        "import io, pickle, sys, zipfile; pickle.loads(zipfile.ZipFile(sys.argv[1]).read('model/data.pkl'))"
    )
    (tmp_path / "weights.pt").write_bytes(content)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, tmp_path / "weights.pt"], check=True, timeout=60
    )
    assert marker.exists()
