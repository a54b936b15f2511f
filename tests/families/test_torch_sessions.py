"""Models by torch: the same results as by ONNX Runtime, alone and in batches, on whatever device there is."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.families import rebuilt
from tests.workers.samples import decode, draw, encode
from workers import engine, registry
from workers.cache import Cache
from workers.inference import torch_sessions
from workers.inference.half import halve
from workers.inference.sessions import Session, get_session
from workers.inference.torch_sessions import PROCESSOR, TOLERANCE, TorchNetwork, measure_difference
from workers.plugin import Context, Family
from workers.recipe import Recipe
from workers.weights.bundle import FolderModel
from workers.weights.upload import Refused

HAS_CUDA = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="There is no GPU that torch can use.")
DEVICES = (PROCESSOR, pytest.param("cuda", marks=needs_cuda))
# What results may differ by, of a result in 32 bits and in half precision.
EXACT = 1e-3
PICTURES = [
    encode(draw(*size, seed=seed), "PNG") for seed, size in enumerate([(200, 150), (64, 64), (90, 130)])
]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FolderModel]:
    made: dict[str, FolderModel] = {}

    def model(name: str) -> FolderModel:
        if name not in made:
            folder = tmp_path_factory.mktemp("models") / name
            folder.mkdir()
            made[name] = rebuilt.convert(name, folder)
        return made[name]

    return model


@pytest.fixture(autouse=True)
def _free_memory() -> Iterator[None]:
    yield
    if HAS_CUDA:
        torch.cuda.empty_cache()


def context_of(model: FolderModel, device: str, **more: Any) -> Context:
    return Context(device=device, models={model.key: model}, model=model, memo=Cache(), **more)


def sides_of(model: FolderModel) -> list[tuple[int, int]]:
    """Sizes of inputs, two where any will do."""
    size, stride = model.facts["input"], model.facts["stride"]
    if model.facts["layout"] == "noise":
        return [(1, 1)]
    if size["width"]:
        return [(size["height"], size["width"])]
    side = max(32, stride)
    return [(side, side), (side, side + max(16, stride))]


def inputs_of(model: FolderModel, number: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    shapes = [(1, model.facts["input"]["channels"], *sides) for sides in sides_of(model)]
    return [random.random(shape, np.float32) for shape in shapes for _ in range(number)]


def tolerance_of(device: str) -> float:
    return TOLERANCE if device == "cuda" else EXACT


def run_at_once(jobs: list[Callable[[], Any]]) -> list[Any]:
    made: list[Any] = [None] * len(jobs)

    def run(index: int) -> None:
        made[index] = jobs[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return made


# --- The same numbers.


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", rebuilt.NAMES)
def test_the_same_outputs(name: str, device: str, model_of: Callable[[str], FolderModel]) -> None:
    model = model_of(name)
    graph, session = get_session(context_of(model, "cpu")), get_session(context_of(model, device))
    for pixels in inputs_of(model, 1):
        found, wanted = session.run(pixels), graph.run(pixels)
        assert [output.shape for output in found] == [output.shape for output in wanted]
        assert all(output.dtype == np.float32 for output in found)
        apart = measure_difference(found, wanted, model.facts["layout"])
        print(f"\n{name} {device} {pixels.shape}: {apart:.2g}")
        assert apart <= tolerance_of(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", rebuilt.NAMES)
def test_a_batch_gives_what_each_alone_gives(
    name: str, device: str, model_of: Callable[[str], FolderModel]
) -> None:
    model = model_of(name)
    context = context_of(model, device)
    network = torch_sessions.get_loaded(context, model).network
    for pixels in inputs_of(model, 1):
        inputs = [pixels, 1 - pixels, pixels / 2]
        together = network.finish(network.start([network.enter(one) for one in inputs]))
        alone = [network.finish(network.start([network.enter(one)]))[0] for one in inputs]
        for ours, own in zip(together, alone, strict=True):
            assert measure_difference(ours, own, model.facts["layout"]) <= tolerance_of(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["yolo11n-seg", "yolov5", "esrgan", "resnet", "vit"])
def test_pictures_of_several_threads_come_out_as_one_by_one_by_onnx(
    name: str, device: str, model_of: Callable[[str], FolderModel]
) -> None:
    model = model_of(name)
    recipe = Recipe.single(model.facts["family"], {}, weights=model.key)
    wanted = [engine.run(recipe, data, context_of(model, "cpu")) for data in PICTURES]
    context = context_of(model, device, together=lambda: len(PICTURES))
    engine.load_models(recipe, context)

    def job(data: bytes) -> Callable[[], engine.Outcome]:
        return lambda: engine.run(recipe, data, context)

    found = run_at_once([job(data) for data in PICTURES])
    for ours, theirs in zip(found, wanted, strict=True):
        _assert_alike(ours, theirs, half=device == "cuda")


def _assert_alike(ours: engine.Outcome, theirs: engine.Outcome, *, half: bool) -> None:
    if ours.data is None:
        pictures = [decode(made.files[0].data) for made in (ours, theirs)]
        first, second = (np.asarray(picture, np.int16) for picture in pictures)
        assert first.shape == second.shape
        assert np.abs(first - second).max() <= (4 if half else 1)
        return
    assert isinstance(ours.data, dict)
    assert isinstance(theirs.data, dict)
    assert ours.data["image"] == theirs.data["image"]
    # Networks with random weights find much and are sure of little: which boxes stay may turn on a digit.
    sure, known = (
        sorted((one["confidence"] for one in made.data["predictions"]), reverse=True)[:5]
        for made in (ours, theirs)
    )
    assert sure == pytest.approx(known, abs=0.02 if half else EXACT)


# --- Half precision.


@pytest.mark.parametrize("name", rebuilt.NAMES)
def test_half_precision_leaves_outputs_what_they_are(
    name: str, model_of: Callable[[str], FolderModel]
) -> None:
    """On the processor, which rounds the same numbers, if slowly."""
    model = model_of(name)
    network = torch_sessions.get_loaded(context_of(model, PROCESSOR), model).network
    inputs = inputs_of(model, 1)
    wanted = [network.finish(network.start([network.enter(pixels)]))[0] for pixels in inputs]
    network.halve()
    for pixels, outputs in zip(inputs, wanted, strict=True):
        (found,) = network.finish(network.start([network.enter(pixels)]))
        assert all(output.dtype == np.float32 for output in found)
        apart = measure_difference(found, outputs, model.facts["layout"])
        print(f"\n{name} {pixels.shape}: {apart:.2g}")
        assert 0 < apart <= TOLERANCE


@pytest.mark.parametrize("name", ["yolo11n", "yolo11n-pose", "yolo11n-obb", "yolo26n-pose", "yolov5"])
def test_places_are_computed_in_32_bits(name: str, model_of: Callable[[str], FolderModel]) -> None:
    """Half precision knows only every second half pixel beyond 512."""
    model = model_of(name)
    family = registry.get(model.facts["family"])
    tensors = torch_sessions_tensors(model)
    exact, half = family.rebuild(model.facts, tensors), family.rebuild(model.facts, tensors)
    halve(half)
    pixels = torch.rand(1, 3, 64, 1024, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted = torch_sessions.flatten(exact(pixels))[0]
        found = torch_sessions.flatten(half(pixels.half()))[0]
    assert found.dtype == torch.float32
    if model.facts["layout"] == "end-to-end":
        assert (found[..., 4] - wanted[..., 4]).abs().max() < 0.01
        places = found[..., :4]
    else:
        rows = found if name == "yolov5" else found.transpose(1, 2)
        known = wanted if name == "yolov5" else wanted.transpose(1, 2)
        places = rows[..., :2]
        assert (places - known[..., :2]).abs().max() < 0.3
    beyond = places[places > 512]
    assert len(beyond) > 5
    # Were they in half precision, all would be whole halves.
    assert ((beyond * 2) % 1 != 0).float().mean() > 0.5


def torch_sessions_tensors(model: FolderModel) -> dict[str, Any]:
    from safetensors.torch import load

    tensors: dict[str, Any] = load(model.read("weights.safetensors"))
    return tensors


@needs_cuda
def test_a_gpu_runs_in_half_precision(model_of: Callable[[str], FolderModel]) -> None:
    model = model_of("yolo11n")
    loaded = torch_sessions.get_loaded(context_of(model, "cuda"), model)
    assert loaded.network.dtype == torch.float16
    assert loaded.size < 1.1 * 2 * model.facts["parameters"]


@needs_cuda
def test_what_half_precision_would_change_runs_in_32_bits(
    model_of: Callable[[str], FolderModel], tmp_path: Path
) -> None:
    """Numbers beyond 65504, which it does not have."""
    from safetensors.torch import save_file

    model = model_of("compact")
    tensors = torch_sessions_tensors(model)
    first = min(name for name in tensors if name.endswith("weight") and tensors[name].ndim == 4)
    tensors[first] *= 1e6
    save_file(tensors, tmp_path / "weights.safetensors")
    (tmp_path / "model.json").write_bytes((model.folder / "model.json").read_bytes())
    large = FolderModel(tmp_path)
    loaded = torch_sessions.get_loaded(context_of(large, "cuda"), large)
    assert loaded.network.dtype == torch.float32


def test_the_difference_is_that_of_the_worst_number() -> None:
    one, other = np.array([[1.0, 100.0]], np.float32), np.array([[1.1, 101.0]], np.float32)
    assert measure_difference([one], [other], "anchors") == pytest.approx(0.1 / 2.1, rel=1e-4)
    assert measure_difference([one * np.nan], [other], "anchors") == np.inf
    assert measure_difference([np.zeros((1, 0))], [np.zeros((1, 0))], "anchors") == 0
    rows = np.array([[[0, 0, 5, 5, 0.9, 1], [3, 3, 9, 9, 0.8, 0]]], np.float32)
    assert measure_difference([rows], [rows[:, ::-1]], "end-to-end") == 0


# --- Faults.


@pytest.fixture
def network(model_of: Callable[[str], FolderModel]) -> TorchNetwork:
    return torch_sessions.get_loaded(context_of(model_of("compact"), PROCESSOR), model_of("compact")).network


def fail_with(error: Exception, network: TorchNetwork, *, above: int = 0) -> None:
    """Have the network raise for batches of more than so many pictures."""

    def check(_module: Any, inputs: Any) -> None:
        if len(inputs[0]) > above:
            raise error

    network._module.register_forward_pre_hook(check)


def test_out_of_memory_is_a_memory_error_and_halves_the_batch(
    model_of: Callable[[str], FolderModel],
) -> None:
    model = model_of("compact")
    loaded = torch_sessions.get_loaded(context_of(model, PROCESSOR), model)
    fail_with(torch.OutOfMemoryError("CUDA out of memory."), loaded.network, above=2)
    pixels = np.random.default_rng(1).random((5, 1, 3, 32, 32), np.float32)
    wanted = [get_session(context_of(model, "cpu")).run(one)[0] for one in pixels]
    batcher = torch_sessions.Batcher(loaded.network, patience=5.0)
    found = run_at_once([lambda one=one: batcher.run(one, lambda: 5)[0] for one in pixels])
    assert all(np.abs(ours - theirs).max() < EXACT for ours, theirs in zip(found, wanted, strict=True))


def test_memory_that_never_suffices_fails_the_picture(model_of: Callable[[str], FolderModel]) -> None:
    model = model_of("compact")
    context = context_of(model, PROCESSOR)
    fail_with(
        torch.OutOfMemoryError("CUDA out of memory."), torch_sessions.get_loaded(context, model).network
    )
    recipe = Recipe.single("gan", {}, weights=model.key)
    with pytest.raises(engine.PictureError, match="memory"):
        engine.run(recipe, PICTURES[1], context)


@pytest.mark.parametrize("said", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate"])
def test_the_processor_s_memory_is_told_the_same_way(said: str, network: TorchNetwork) -> None:
    fail_with(RuntimeError(said), network)
    with pytest.raises(MemoryError):
        network.start([network.enter(np.zeros((1, 3, 32, 32), np.float32))])


def test_any_other_fault_is_told_as_it_is(network: TorchNetwork) -> None:
    fail_with(RuntimeError("a fault of ours"), network)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        network.start([network.enter(np.zeros((1, 3, 32, 32), np.float32))])


def test_memory_that_is_really_too_small_is_told(network: TorchNetwork) -> None:
    with pytest.raises(MemoryError), network._telling_faults():
        torch.empty(2**60, dtype=torch.uint8)


@needs_cuda
def test_a_gpu_whose_memory_is_really_too_small(network: TorchNetwork) -> None:
    with pytest.raises(MemoryError), network._telling_faults():
        torch.empty(2**44, dtype=torch.uint8, device="cuda")
    assert torch.ones(3, device="cuda").sum().item() == 3


LOST = """
import sys, numpy as np, torch
from workers.plugin import DeviceLost
from workers.inference.torch_sessions import TorchNetwork
network = TorchNetwork(torch.nn.Conv2d(3, 3, 1), "cuda")
pixels = np.zeros((1, 3, 8, 8), np.float32)
network.finish(network.start([network.enter(pixels)]))
torch._assert_async(torch.zeros(1, device="cuda"))
try:
    network.finish(network.start([network.enter(pixels)]))
except DeviceLost:
    sys.exit(7)
"""


@needs_cuda
def test_a_device_that_fails_its_process_is_told() -> None:
    assert subprocess.run([sys.executable, "-c", LOST], capture_output=True, check=False).returncode == 7


# --- Which session is had.


def test_a_model_is_loaded_once_for_a_device(model_of: Callable[[str], FolderModel]) -> None:
    model = model_of("compact")
    context = context_of(model, PROCESSOR)
    first = torch_sessions.get_loaded(context, model)
    assert torch_sessions.get_loaded(context, model) is first
    assert isinstance(context.memo, Cache)
    assert list(context.memo._entries) == [("torch", model.key, PROCESSOR)]
    weights = sum(tensor.numel() * 4 for tensor in torch_sessions_tensors(model).values())
    assert context.memo.used_bytes == first.size == weights


@pytest.mark.parametrize("family", registry.all_families(), ids=lambda family: family.key)
def test_families_of_gpus_can_rebuild_their_networks(family: Family[Any]) -> None:
    assert (family.queue == "gpu") == (type(family).rebuild is not Family.rebuild)
    if family.queue != "gpu":
        with pytest.raises(NotImplementedError):
            family.rebuild({}, {})


def test_for_a_model_that_does_not_fit_the_others_go(
    model_of: Callable[[str], FolderModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = model_of("compact"), model_of("noise")
    kept, load = Cache(), torch_sessions._load
    monkeypatch.setattr(engine, "PROCESS_CACHE", kept)
    context = Context(device=PROCESSOR, models={model.key: model for model in (first, second)})
    engine.load_models(Recipe.single("gan", weights=first.key), context)

    def load_where_there_is_room(model: Any, device: str) -> Any:
        if len(kept):
            raise MemoryError
        return load(model, device)

    monkeypatch.setattr(torch_sessions, "_load", load_where_there_is_room)
    engine.load_models(Recipe.single("gan", weights=second.key), context)
    assert list(kept._entries) == [("torch", second.key, PROCESSOR)]

    def load_nowhere(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(torch_sessions, "_load", load_nowhere)
    with pytest.raises(MemoryError):
        engine.load_models(Recipe.single("gan", weights=first.key), context)


def test_a_graph_without_a_network_goes_by_onnx_everywhere(model_of: Callable[[str], FolderModel]) -> None:
    model = model_of("yolo11n")
    as_graph = copy.copy(model)
    as_graph.__dict__["facts"] = {**model.facts, "family": "onnx"}
    context = context_of(as_graph, PROCESSOR)
    pixels = inputs_of(model, 1)[0]
    assert len(get_session(context).run(pixels)) == 1
    assert isinstance(context.memo, Cache)
    assert list(context.memo._entries) == [("onnx", model.key)]


def test_a_run_ends_between_two_tiles(model_of: Callable[[str], FolderModel]) -> None:
    class Ended(BaseException):
        pass

    calls: list[int] = []

    def checkpoint() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Ended

    session = get_session(context_of(model_of("compact"), PROCESSOR, checkpoint=checkpoint))
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
        session = get_session(context_of(model, PROCESSOR))
        assert session.shape == (None, 3, *sides)
    assert get_session(context_of(model_of("vit"), PROCESSOR)).shape == (None, 3, 32, 32)
    assert get_session(context_of(model_of("esrgan"), PROCESSOR)).shape == (None, 3, None, None)
    shapes = [session.run(np.zeros((1, 3, *sides), np.float32))[0].shape for sides in ((64, 96), (32, 64))]
    assert shapes == [(1, 6, 126), (1, 6, 42)]


# --- Facts are not believed.


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
def test_facts_that_lie_are_refused(
    name: str, change: dict[str, Any], model_of: Callable[[str], FolderModel]
) -> None:
    model = model_of(name)
    architecture = copy.deepcopy(model.facts["architecture"])
    architecture["yaml" if "yaml" in architecture else "settings"] |= change
    family = registry.get(model.facts["family"])
    with pytest.raises(Refused):
        family.rebuild({**model.facts, "architecture": architecture}, torch_sessions_tensors(model))


def test_ultralytics_leaves_pillow_and_the_home_folder_alone(
    model_of: Callable[[str], FolderModel], tmp_path: Path
) -> None:
    code = """
import sys
from pathlib import Path
from PIL import Image
from workers.plugin import Context, Family
from workers.inference.sessions import get_session
from workers.weights.bundle import FolderModel
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


def test_nothing_of_torch_is_loaded_before_a_model_is() -> None:
    code = "import sys; from workers import registry; registry.discover(); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
