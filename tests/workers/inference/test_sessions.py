"""Sessions of models: choice, cache, and verification of facts when a network is rebuilt."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workers.families import rebuilt
from workers import engine, registry
from workers.bundle import FolderModel
from workers.cache import Cache
from workers.checkpoints.upload import Refused
from workers.inference import torch_sessions
from workers.inference.sessions import Session, get_session
from workers.inference.torch_sessions import TORCH_PROCESSOR
from workers.plugin import Context, Family
from workers.recipe import Recipe

# --- Choice of session.


def test_a_model_is_loaded_once_for_a_device(model_of: Callable[[str], FolderModel]) -> None:
    model = model_of("compact")
    context = rebuilt.context_of(model, TORCH_PROCESSOR)
    first = torch_sessions.get_loaded(context, model)
    assert torch_sessions.get_loaded(context, model) is first
    assert isinstance(context.memo, Cache)
    assert list(context.memo._entries) == [("torch", model.key, TORCH_PROCESSOR)]
    weights = sum(tensor.numel() * 4 for tensor in rebuilt.tensors_of(model).values())
    assert context.memo.used_bytes == first.size == weights


@pytest.mark.parametrize("family", registry.all_families(), ids=lambda family: family.key)
def test_families_of_gpus_can_rebuild_their_networks(family: Family[Any]) -> None:
    assert (family.queue == "gpu") == (type(family).rebuild is not Family.rebuild)
    if family.queue != "gpu":
        with pytest.raises(NotImplementedError):
            family.rebuild({}, {})


def test_a_model_that_does_not_fit_evicts_the_others(
    model_of: Callable[[str], FolderModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = model_of("compact"), model_of("noise")
    kept, load = Cache(), torch_sessions._load
    monkeypatch.setattr(engine, "PROCESS_CACHE", kept)
    context = Context(device=TORCH_PROCESSOR, models={model.key: model for model in (first, second)})
    engine.load_models(Recipe.single("gan", weights=first.key), context)

    def load_where_there_is_room(model: Any, device: str) -> Any:
        if len(kept):
            raise MemoryError
        return load(model, device)

    monkeypatch.setattr(torch_sessions, "_load", load_where_there_is_room)
    engine.load_models(Recipe.single("gan", weights=second.key), context)
    assert list(kept._entries) == [("torch", second.key, TORCH_PROCESSOR)]

    def load_nowhere(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(torch_sessions, "_load", load_nowhere)
    with pytest.raises(MemoryError):
        engine.load_models(Recipe.single("gan", weights=first.key), context)


def test_a_graph_runs_in_onnx_runtime_on_any_device(model_of: Callable[[str], FolderModel]) -> None:
    model = model_of("yolo11n")
    as_graph = copy.copy(model)
    as_graph.__dict__["facts"] = {**model.facts, "family": "onnx"}
    context = rebuilt.context_of(as_graph, TORCH_PROCESSOR)
    pixels = rebuilt.inputs_of(model, 1)[0]
    assert len(get_session(context).run(pixels)) == 1
    assert isinstance(context.memo, Cache)
    assert list(context.memo._entries) == [("onnx", model.key)]


def test_a_larger_run_makes_a_session_heavier(model_of: Callable[[str], FolderModel]) -> None:
    """ONNX Runtime keeps the memory of its largest run for the next."""
    model = copy.copy(model_of("yolo11n"))
    context = rebuilt.context_of(model, "cpu")
    assert isinstance(context.memo, Cache)
    session, sizes = get_session(context), []
    assert session.shape[2:] == (None, None)
    for side in (640, 320, 960, 640):
        session.run(np.zeros((1, 3, side, side), np.float32))
        sizes.append(context.memo.used_bytes)
    assert sizes[0] <= sizes[1] < sizes[2] <= sizes[3]
    assert sizes[2] - sizes[0] > 10 * 2**20


def test_a_run_ends_between_two_tiles(model_of: Callable[[str], FolderModel]) -> None:
    class Ended(BaseException):
        pass

    calls: list[int] = []

    def checkpoint() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Ended

    session = get_session(rebuilt.context_of(model_of("compact"), TORCH_PROCESSOR, checkpoint=checkpoint))
    assert isinstance(session, Session)
    tile = np.zeros((1, 3, 32, 32), np.float32)
    session.run(tile)
    session.run(tile)
    with pytest.raises(Ended):
        session.run(tile)


def test_it_takes_the_sizes_that_onnx_takes(model_of: Callable[[str], FolderModel]) -> None:
    model = copy.copy(model_of("yolo11n"))
    for rectangles, sides in ((False, (64, 64)), (True, (None, None))):
        model.__dict__["facts"] = {**model.facts, "rectangles": rectangles}
        session = get_session(rebuilt.context_of(model, TORCH_PROCESSOR))
        assert session.shape == (None, 3, *sides)
    assert get_session(rebuilt.context_of(model_of("vit"), TORCH_PROCESSOR)).shape == (None, 3, 32, 32)
    assert get_session(rebuilt.context_of(model_of("esrgan"), TORCH_PROCESSOR)).shape == (None, 3, None, None)
    shapes = [session.run(np.zeros((1, 3, *sides), np.float32))[0].shape for sides in ((64, 96), (32, 64))]
    assert shapes == [(1, 6, 126), (1, 6, 42)]


# --- Facts are verified.


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("yolo11n", {"activation": "__import__('os').system('false')"}),
        ("yolo11n", {"nc": 10**9}),
        ("yolov5", {"activation": "print()"}),
        ("vit", {"layers": 10**9}),
        ("compact", {"convolutions": 10**9}),
        ("compact", {"features": 7}),
        ("noise", {"widths": [1] * 10**6}),
    ],
)
def test_wrong_facts_are_refused(
    name: str, change: dict[str, Any], model_of: Callable[[str], FolderModel]
) -> None:
    model = model_of(name)
    architecture = copy.deepcopy(model.facts["architecture"])
    architecture["yaml" if "yaml" in architecture else "settings"] |= change
    family = registry.get(model.facts["family"])
    with pytest.raises(Refused):
        family.rebuild({**model.facts, "architecture": architecture}, rebuilt.tensors_of(model))


def test_ultralytics_leaves_pillow_and_the_home_folder_alone(
    model_of: Callable[[str], FolderModel], tmp_path: Path
) -> None:
    code = """
import sys
from pathlib import Path
from PIL import Image
from workers.plugin import Context, Family
from workers.inference.sessions import get_session
from workers.bundle import FolderModel
before = Image.open
get_session(Context(device="torch-cpu", model=FolderModel(Path(sys.argv[1]))))
assert "ultralytics" in sys.modules
assert Image.open is before
"""
    home = tmp_path / "home"
    home.mkdir()
    env = {"HOME": str(home), "PATH": "/usr/bin", "TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code, str(model_of("yolo11n").folder)]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list(home.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_torch_is_not_imported_before_a_model_is_loaded() -> None:
    code = "import sys; from workers import registry; registry.discover(); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
