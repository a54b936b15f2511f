"""Converted models on a GPU: their networks rebuilt for torch, in half precision, run in batches.

The same runs on the processor ("torch-cpu"), in 32 bits. torch is imported when a model is loaded, which must
happen in the process that runs it: a child that is forked after CUDA was touched cannot use it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers import devices, registry
from workers.bundle import WEIGHTS
from workers.devices import Device
from workers.export import flatten
from workers.inference.batching import Batcher
from workers.inference.half_precision import halve
from workers.plugin import Context, DeviceLost, Family, Model

Floats = NDArray[np.float32]
logger = logging.getLogger(__name__)

TORCH_PROCESSOR = "torch-cpu"
# How far half precision may take an output from 32 bits, in proportion to one more than its size. A model
# that it takes further runs in 32 bits.
TOLERANCE = 0.01
# Of the picture that it is tried on where any size will do.
_TRIED_SIDE = 128
_SEED = 20_11


@dataclass(frozen=True)
class _Started:
    """A batch on its way: where its outputs come to lie, when they are there, and whose they are."""

    outputs: Sequence[Any]
    arrival: Any
    counts: Sequence[int]


class TorchNetwork:
    """A torch module on a device: implements `workers.inference.batching.BatchRunner`."""

    def __init__(self, module: Any, device: str) -> None:
        import torch

        self.device = torch.device("cpu" if device == TORCH_PROCESSOR else device)
        self.is_cuda = self.device.type == "cuda"
        with self._telling_faults():
            self._module = module.eval().to(self.device, memory_format=torch.channels_last)
        self.dtype = torch.float32

    @property
    def size(self) -> int:
        """Bytes of its weights on the device."""
        tensors = [*self._module.parameters(), *self._module.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def halve(self) -> None:
        import torch

        with self._telling_faults():
            halve(self._module)
        self.dtype = torch.float16

    def enter(self, pixels: Floats, /) -> Any:
        import torch

        with self._telling_faults():
            tensor = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.dtype)
            # From memory that stays where it is, the device fetches by itself.
            return tensor.pin_memory().to(self.device, non_blocking=True) if self.is_cuda else tensor

    def start(self, inputs: Sequence[Any], /) -> _Started:
        import torch

        with self._telling_faults(), torch.inference_mode():
            together = torch.cat(list(inputs)) if len(inputs) > 1 else inputs[0]
            made = flatten(self._module(together.contiguous(memory_format=torch.channels_last)))
            outputs = [self._bring_back(output.float()) for output in made]
            arrival = None
            if self.is_cuda:
                # Waited for asleep, not by asking over and over: other threads need the processor.
                arrival = torch.cuda.Event(blocking=True)
                arrival.record(torch.cuda.current_stream(self.device))
        return _Started(outputs, arrival, [len(one) for one in inputs])

    def finish(self, started: _Started, /) -> list[list[Floats]]:
        with self._telling_faults():
            if started.arrival is not None:
                started.arrival.synchronize()
        arrays = [output.numpy() for output in started.outputs]
        ends = np.cumsum(started.counts)
        return [
            [array[end - count : end] for array in arrays]
            for end, count in zip(ends, started.counts, strict=True)
        ]

    def _bring_back(self, output: Any) -> Any:
        import torch

        if not self.is_cuda:
            return output.contiguous()
        there = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
        return there.copy_(output, non_blocking=True)

    @contextmanager
    def _telling_faults(self) -> Iterator[None]:
        """Raise MemoryError where the device's memory was too small, DeviceLost where the device is gone."""
        import torch

        try:
            with torch.cuda.device(self.device) if self.is_cuda else nullcontext():
                yield
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise MemoryError("The GPU's memory does not suffice.") from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise MemoryError("The memory does not suffice.") from error
            if self.is_cuda and not self._answers():
                raise DeviceLost("The GPU does not answer this process any more.") from error
            raise

    def _answers(self) -> bool:
        """After some faults of CUDA each call fails, until another process begins anew."""
        import torch

        try:
            torch.cuda.synchronize(self.device)
        except RuntimeError:
            return False
        return True


@dataclass(frozen=True)
class Loaded:
    """A model on a device, ready to run, and the bytes that it takes there."""

    batcher: Batcher
    network: TorchNetwork
    shape: tuple[int | None, ...]

    @property
    def size(self) -> int:
        return self.network.size


def can_run(model: Model) -> bool:
    """Tell whether there is a network for torch: a graph that came as ONNX has none."""
    return serves(model.facts["family"])


def serves(family: str) -> bool:
    """Tell whether there are networks for torch of this family."""
    return registry.get(family).queue == "gpu"


@cache
def name_device(device: str) -> Device:
    """Say which device this process means by "cuda", "cuda:1" and so on, or "torch-cpu".

    It asks CUDA itself, whose order of devices is not the driver's. On the processor torch is not as fast as
    ONNX Runtime, so it goes by a name of its own.
    """
    if device == TORCH_PROCESSOR:
        return Device("cpu", f"{devices.processor().name} (torch)")
    import torch

    return Device("gpu", torch.cuda.get_device_name(device))


def get_loaded(context: Context, model: Model) -> Loaded:
    """Return the model on the context's device, kept in this process by its digest and the device.

    Raises:
        MemoryError: the device has no room for it.
        DeviceLost: the GPU has failed this process.
        OSError: the storage does not give the weights.
    """
    key = ("torch", model.key, context.device)
    return context.keep(key, lambda: _load(model, context.device), lambda made: made.size)


def measure_difference(found: Sequence[Floats], wanted: Sequence[Floats], layout: str) -> float:
    """Return how far outputs lie apart at most, in proportion to one more than the size; infinity for NaN.

    End-to-end heads choose among candidates that may be all but equal: there scores are compared, in order.
    """
    pairs = list(zip(found, wanted, strict=True))
    if layout == "end-to-end":
        (rows, others), *pairs = pairs
        pairs.append((np.sort(rows[..., 4]), np.sort(others[..., 4])))
    apart = [np.max(np.abs(ours - theirs) / (1 + np.abs(theirs)), initial=0.0) for ours, theirs in pairs]
    return float(np.nan_to_num(np.max(apart), nan=np.inf))


def _load(model: Model, device: str) -> Loaded:
    _prepare_torch()
    sample = _sample_of(model)
    network = TorchNetwork(_rebuild(model), device)
    wanted = _run(network, sample)
    if network.is_cuda and not _is_the_same_halved(network, sample, wanted, model):
        logger.warning("The model %s runs in 32 bits: half precision would change its results", model.key)
        network = TorchNetwork(_rebuild(model), device)
        _run(network, sample)
    return Loaded(Batcher(network), network, _shape_of(model))


def _prepare_torch() -> None:
    """One thread, as everything in a slot; and 32 bits that are 32 bits."""
    import torch

    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _rebuild(model: Model) -> Any:
    from safetensors.torch import load

    family = registry.get(model.facts["family"])
    assert isinstance(family, Family)
    return family.rebuild(model.facts, load(model.read(WEIGHTS)))


def _run(network: TorchNetwork, sample: Floats) -> list[Floats]:
    (outputs,) = network.finish(network.start([network.enter(sample)]))
    return outputs


def _is_the_same_halved(
    network: TorchNetwork, sample: Floats, wanted: Sequence[Floats], model: Model
) -> bool:
    """Halve the network, and tell whether that leaves its outputs what they were."""
    network.halve()
    try:
        found = _run(network, sample)
    except (MemoryError, DeviceLost):
        raise
    except RuntimeError:
        logger.warning("The model %s does not run in half precision", model.key, exc_info=True)
        return False
    apart = measure_difference(found, wanted, model.facts.get("layout", ""))
    return apart <= TOLERANCE


def _shape_of(model: Model) -> tuple[int | None, ...]:
    """Return the shape of the input, None for lengths that are free: what its ONNX form would say."""
    size = model.facts["input"]
    sides = (None, None) if model.facts.get("rectangles") else (size["height"] or None, size["width"] or None)
    return (None, size["channels"], *sides)


def _sample_of(model: Model) -> Floats:
    """Return an input that the network can read, of noise."""
    size, stride = model.facts["input"], model.facts.get("stride", 1)
    free = -(-_TRIED_SIDE // stride) * stride
    shape = (1, size["channels"], size["height"] or free, size["width"] or free)
    return np.random.default_rng(_SEED).random(shape, np.float32)
