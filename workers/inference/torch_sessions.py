"""Converted models on a GPU: networks rebuilt for torch, in half precision, run in batches.

The device "torch-cpu" runs the same on the CPU, in 32 bits. Loading a model imports torch. It must happen in
the process that runs the model: a child that is forked after CUDA was initialized cannot use CUDA.
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
# Largest difference between outputs in half precision and in 32 bits: |a - b| / (1 + |b|). Above it, the
# model runs in 32 bits.
TOLERANCE = 0.01
# Side of the sample input if the model takes any size, in pixels.
_SAMPLE_SIDE = 128
_SEED = 20_11


@dataclass(frozen=True)
class _Started:
    """A running batch: its outputs, the event of their arrival, and the count of rows by input."""

    outputs: Sequence[Any]
    arrival: Any
    counts: Sequence[int]


class TorchNetwork:
    """A torch module on a device: implements `workers.inference.batching.BatchRunner`."""

    def __init__(self, module: Any, device: str) -> None:
        import torch

        self.device = torch.device("cpu" if device == TORCH_PROCESSOR else device)
        self.is_cuda = self.device.type == "cuda"
        with self._raise_device_errors():
            self._module = module.eval().to(self.device, memory_format=torch.channels_last)
        self.dtype = torch.float32

    @property
    def size(self) -> int:
        """Bytes of its weights on the device."""
        tensors = [*self._module.parameters(), *self._module.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def halve(self) -> None:
        import torch

        with self._raise_device_errors():
            halve(self._module)
        self.dtype = torch.float16

    def enter(self, pixels: Floats, /) -> Any:
        import torch

        with self._raise_device_errors():
            tensor = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.dtype)
            # The device copies from pinned memory asynchronously.
            return tensor.pin_memory().to(self.device, non_blocking=True) if self.is_cuda else tensor

    def start(self, inputs: Sequence[Any], /) -> _Started:
        import torch

        with self._raise_device_errors(), torch.inference_mode():
            batch = torch.cat(list(inputs)) if len(inputs) > 1 else inputs[0]
            tensors = flatten(self._module(batch.contiguous(memory_format=torch.channels_last)))
            outputs = [self._copy_to_host(tensor.float()) for tensor in tensors]
            arrival = None
            if self.is_cuda:
                # A blocking event sleeps instead of spinning: other threads need the CPU.
                arrival = torch.cuda.Event(blocking=True)
                arrival.record(torch.cuda.current_stream(self.device))
        return _Started(outputs, arrival, [len(one) for one in inputs])

    def finish(self, started: _Started, /) -> list[list[Floats]]:
        with self._raise_device_errors():
            if started.arrival is not None:
                started.arrival.synchronize()
        arrays = [output.numpy() for output in started.outputs]
        ends = np.cumsum(started.counts)
        return [
            [array[end - count : end] for array in arrays]
            for end, count in zip(ends, started.counts, strict=True)
        ]

    def _copy_to_host(self, output: Any) -> Any:
        import torch

        if not self.is_cuda:
            return output.contiguous()
        host = torch.empty(output.shape, dtype=output.dtype, pin_memory=True)
        return host.copy_(output, non_blocking=True)

    @contextmanager
    def _raise_device_errors(self) -> Iterator[None]:
        """Turn torch's errors into MemoryError if device memory runs out, DeviceLost if the device failed."""
        import torch

        try:
            with torch.cuda.device(self.device) if self.is_cuda else nullcontext():
                yield
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise MemoryError("The GPU ran out of memory.") from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise MemoryError("The process ran out of memory.") from error
            if self.is_cuda and not self._is_working():
                raise DeviceLost("The GPU no longer works in this process.") from error
            raise

    def _is_working(self) -> bool:
        """Return whether CUDA still works. After some errors, every call fails until the process restarts."""
        import torch

        try:
            torch.cuda.synchronize(self.device)
        except RuntimeError:
            return False
        return True


@dataclass(frozen=True)
class Loaded:
    """A model that is loaded on a device. `size` is its memory there, in bytes."""

    batcher: Batcher
    network: TorchNetwork
    shape: tuple[int | None, ...]

    @property
    def size(self) -> int:
        return self.network.size


def can_run(model: Model) -> bool:
    """Return whether the model has a torch network. Uploaded ONNX graphs have none."""
    return serves(model.facts["family"])


def serves(family: str) -> bool:
    """Return whether models of this family have torch networks."""
    return registry.get(family).queue == "gpu"


@cache
def name_device(device: str) -> Device:
    """Return the device that this process means by "cuda", "cuda:1" and so on, or "torch-cpu".

    It asks CUDA, because its order of devices differs from the driver's. The CPU gets its own name with
    "(torch)", because torch is slower there than ONNX Runtime.
    """
    if device == TORCH_PROCESSOR:
        return Device("cpu", f"{devices.processor().name} (torch)")
    import torch

    return Device("gpu", torch.cuda.get_device_name(device))


def get_loaded(context: Context, model: Model) -> Loaded:
    """Return the model on the context's device, cached in this process by digest and device.

    Raises:
        MemoryError: it does not fit into the device's memory.
        DeviceLost: the GPU has failed.
        OSError: the weights cannot be read from storage.
    """
    key = ("torch", model.key, context.device)
    return context.keep(key, lambda: _load(model, context.device), lambda loaded: loaded.size)


def measure_difference(found: Sequence[Floats], wanted: Sequence[Floats], layout: str) -> float:
    """Return the largest difference of outputs, relative to 1 + |wanted|. NaN counts as infinity.

    End-to-end heads may swap nearly equal candidates, so only their sorted scores are compared.
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
        logger.warning("Model %s runs in 32 bits, because half precision changes its results", model.key)
        network = TorchNetwork(_rebuild(model), device)
        _run(network, sample)
    return Loaded(Batcher(network), network, _shape_of(model))


def _prepare_torch() -> None:
    """Set torch to one thread, as each slot is a process, and disable TF32, which rounds 32-bit values."""
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
    """Convert the network to half precision, and return whether its outputs stay within the tolerance."""
    network.halve()
    try:
        found = _run(network, sample)
    except (MemoryError, DeviceLost):
        raise
    except RuntimeError:
        logger.warning("Model %s does not run in half precision", model.key, exc_info=True)
        return False
    difference = measure_difference(found, wanted, model.facts.get("layout", ""))
    return difference <= TOLERANCE


def _shape_of(model: Model) -> tuple[int | None, ...]:
    """Return the shape of the input, as in the ONNX form. None: free length."""
    size = model.facts["input"]
    sides = (None, None) if model.facts.get("rectangles") else (size["height"] or None, size["width"] or None)
    return (None, size["channels"], *sides)


def _sample_of(model: Model) -> Floats:
    """Return an input of noise with a valid shape."""
    size, stride = model.facts["input"], model.facts.get("stride", 1)
    free = -(-_SAMPLE_SIDE // stride) * stride
    shape = (1, size["channels"], size["height"] or free, size["width"] or free)
    return np.random.default_rng(_SEED).random(shape, np.float32)
