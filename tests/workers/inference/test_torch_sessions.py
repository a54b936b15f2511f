"""Models in torch give the same results as in ONNX Runtime, alone and in batches, on CPU and GPU."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from processing.fleet import slot_memory
from tests.workers.families import rebuilt
from tests.workers.media.samples import decode, draw, encode
from workers import engine, registry
from workers.bundle import FolderModel
from workers.inference import torch_sessions
from workers.inference.errors import ModelFault
from workers.inference.half_precision import halve
from workers.inference.sessions import get_session
from workers.inference.torch_sessions import TOLERANCE, TORCH_PROCESSOR, TorchNetwork, measure_difference
from workers.recipe import Recipe

HAS_CUDA = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="There is no GPU that torch can use.")
DEVICES = (TORCH_PROCESSOR, pytest.param("cuda", marks=needs_cuda))
# Largest difference of results in 32 bits.
EXACT = 1e-3
PICTURES = [
    encode(draw(*size, seed=seed), "PNG") for seed, size in enumerate([(200, 150), (64, 64), (90, 130)])
]


@pytest.fixture(autouse=True)
def _free_memory() -> Iterator[None]:
    yield
    if HAS_CUDA:
        torch.cuda.empty_cache()


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
    graph, session = (
        get_session(rebuilt.context_of(model, "cpu")),
        get_session(rebuilt.context_of(model, device)),
    )
    for pixels in rebuilt.inputs_of(model, 1):
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
    context = rebuilt.context_of(model, device)
    network = torch_sessions.get_loaded(context, model).network
    for pixels in rebuilt.inputs_of(model, 1):
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
    wanted = [engine.run(recipe, data, rebuilt.context_of(model, "cpu")) for data in PICTURES]
    context = rebuilt.context_of(model, device, together=lambda: len(PICTURES))
    engine.load_models(recipe, context)

    def job(data: bytes) -> Callable[[], engine.RecipeResult]:
        return lambda: engine.run(recipe, data, context)

    found = run_at_once([job(data) for data in PICTURES])
    for ours, theirs in zip(found, wanted, strict=True):
        _assert_alike(ours, theirs, half=device == "cuda")


def _assert_alike(ours: engine.RecipeResult, theirs: engine.RecipeResult, *, half: bool) -> None:
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
def test_half_precision_keeps_outputs_within_the_tolerance(
    name: str, model_of: Callable[[str], FolderModel]
) -> None:
    """Runs on the CPU, which rounds in the same way."""
    model = model_of(name)
    network = torch_sessions.get_loaded(rebuilt.context_of(model, TORCH_PROCESSOR), model).network
    inputs = rebuilt.inputs_of(model, 1)
    wanted = [network.finish(network.start([network.enter(pixels)]))[0] for pixels in inputs]
    network.halve()
    for pixels, outputs in zip(inputs, wanted, strict=True):
        (found,) = network.finish(network.start([network.enter(pixels)]))
        assert all(output.dtype == np.float32 for output in found)
        apart = measure_difference(found, outputs, model.facts["layout"])
        print(f"\n{name} {pixels.shape}: {apart:.2g}")
        assert 0 < apart <= TOLERANCE


@pytest.mark.parametrize("name", ["yolo11n", "yolo11n-pose", "yolo11n-obb", "yolo26n-pose", "yolov5"])
def test_box_coordinates_are_computed_in_32_bits(name: str, model_of: Callable[[str], FolderModel]) -> None:
    """Above 512, half precision has a resolution of half a pixel."""
    model = model_of(name)
    family = registry.get(model.facts["family"])
    tensors = rebuilt.tensors_of(model)
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
    # In half precision, all would be multiples of a half.
    assert ((beyond * 2) % 1 != 0).float().mean() > 0.5


@needs_cuda
def test_a_gpu_runs_in_half_precision(model_of: Callable[[str], FolderModel]) -> None:
    model = model_of("yolo11n")
    loaded = torch_sessions.get_loaded(rebuilt.context_of(model, "cuda"), model)
    assert loaded.network.dtype == torch.float16
    assert loaded.size < 1.1 * 2 * model.facts["parameters"]


@needs_cuda
def test_a_gpu_goes_by_its_own_name() -> None:
    named = torch_sessions.name_device("cuda")
    assert (named.kind, named.name) == ("gpu", torch.cuda.get_device_properties(0).name)
    assert torch_sessions.name_device("cuda:0") == named


@needs_cuda
def test_a_model_that_half_precision_changes_runs_in_32_bits(
    model_of: Callable[[str], FolderModel], tmp_path: Path
) -> None:
    """Values above 65504 overflow in half precision."""
    from safetensors.torch import save_file

    model = model_of("compact")
    tensors = rebuilt.tensors_of(model)
    first = min(name for name in tensors if name.endswith("weight") and tensors[name].ndim == 4)
    tensors[first] *= 1e6
    save_file(tensors, tmp_path / "weights.safetensors")
    (tmp_path / "model.json").write_bytes((model.folder / "model.json").read_bytes())
    large = FolderModel(tmp_path)
    loaded = torch_sessions.get_loaded(rebuilt.context_of(large, "cuda"), large)
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
    return torch_sessions.get_loaded(
        rebuilt.context_of(model_of("compact"), TORCH_PROCESSOR), model_of("compact")
    ).network


def fail_with(error: Exception, network: TorchNetwork, *, above: int = 0) -> None:
    """Make the network raise for batches of more than `above` images."""

    def check(_module: Any, inputs: Any) -> None:
        if len(inputs[0]) > above:
            raise error

    network._module.register_forward_pre_hook(check)


def test_out_of_memory_is_a_memory_error_and_halves_the_batch(
    model_of: Callable[[str], FolderModel],
) -> None:
    model = model_of("compact")
    loaded = torch_sessions.get_loaded(rebuilt.context_of(model, TORCH_PROCESSOR), model)
    fail_with(torch.OutOfMemoryError("CUDA out of memory."), loaded.network, above=2)
    pixels = np.random.default_rng(1).random((5, 1, 3, 32, 32), np.float32)
    wanted = [get_session(rebuilt.context_of(model, "cpu")).run(one)[0] for one in pixels]
    batcher = torch_sessions.Batcher(loaded.network, max_wait=5.0)
    found = run_at_once([lambda one=one: batcher.run(one, lambda: 5)[0] for one in pixels])
    assert all(np.abs(ours - theirs).max() < EXACT for ours, theirs in zip(found, wanted, strict=True))


def test_an_image_that_never_fits_into_memory_fails(model_of: Callable[[str], FolderModel]) -> None:
    model = model_of("compact")
    context = rebuilt.context_of(model, TORCH_PROCESSOR)
    fail_with(
        torch.OutOfMemoryError("CUDA out of memory."), torch_sessions.get_loaded(context, model).network
    )
    recipe = Recipe.single("gan", {}, weights=model.key)
    with pytest.raises(engine.PictureError, match="memory"):
        engine.run(recipe, PICTURES[1], context)


def test_the_error_for_gpu_memory_says_what_to_do(model_of: Callable[[str], FolderModel]) -> None:
    """The model runs on the CPU, under the name of a GPU."""
    model = model_of("compact")
    context = rebuilt.context_of(model, TORCH_PROCESSOR)
    loaded = torch_sessions.get_loaded(context, model)
    fail_with(torch.OutOfMemoryError("CUDA out of memory."), loaded.network)
    on_gpu = rebuilt.context_of(model, "cuda:7")
    on_gpu.keep(("torch", model.key, "cuda:7"), lambda: loaded, lambda _: 1)
    with pytest.raises(ModelFault, match=r"more memory .* than the GPU has left. Use a smaller") as fault:
        engine.run(Recipe.single("gan", {}, weights=model.key), PICTURES[1], on_gpu)
    # This code makes the job retry the image in a new slot process.
    assert slot_memory.is_lack_of_memory(fault.value)


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate"])
def test_exhausted_cpu_memory_is_a_memory_error(message: str, network: TorchNetwork) -> None:
    fail_with(RuntimeError(message), network)
    with pytest.raises(MemoryError):
        network.start([network.enter(np.zeros((1, 3, 32, 32), np.float32))])


def test_any_other_error_is_raised_unchanged(network: TorchNetwork) -> None:
    fail_with(RuntimeError("an internal error"), network)
    with pytest.raises(RuntimeError, match="an internal error"):
        network.start([network.enter(np.zeros((1, 3, 32, 32), np.float32))])


def test_a_real_allocation_above_cpu_memory_is_a_memory_error(network: TorchNetwork) -> None:
    with pytest.raises(MemoryError), network._raise_device_errors():
        torch.empty(2**60, dtype=torch.uint8)


@needs_cuda
def test_a_real_allocation_above_gpu_memory_is_a_memory_error(network: TorchNetwork) -> None:
    with pytest.raises(MemoryError), network._raise_device_errors():
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
def test_a_failed_device_raises_device_lost() -> None:
    assert subprocess.run([sys.executable, "-c", LOST], capture_output=True, check=False).returncode == 7
