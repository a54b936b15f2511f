"""Sessions of converted models, warmed and kept between pictures: ONNX Runtime's, or torch's on a GPU."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers import devices
from workers.devices import Device
from workers.inference import torch_sessions
from workers.inference.faults import BREAKS_DOWN, ModelFault
from workers.inference.runtime import make_options, telling_of_memory
from workers.plugin import PROCESSOR, Context, Model

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
# What a session holds, as measured with YOLO11 nano and small: it copies the weights and packs some of them
# anew, and keeps the memory of a run, which goes by the size of the input, for the next.
_BYTES_A_BYTE = 2
_BYTES_AN_INPUT_NUMBER = 64
_WARMING_SIDE = 64
_LARGE_SIDE = 640


@dataclass(frozen=True)
class Session:
    """A model ready to run. `shape` is that of its one input, None where any size will do."""

    forward: Callable[[Any], Sequence[Any]]
    shape: tuple[int | None, ...]
    dtype: type[np.generic] = np.float32

    def run(self, pixels: Floats) -> list[Floats]:
        """Return all outputs for one input.

        Raises MemoryError, ModelFault, DeviceLost, and what a checkpoint raises.
        """
        with_type = pixels if pixels.dtype == self.dtype else pixels.astype(self.dtype)
        return [np.asarray(output, np.float32) for output in self.forward(with_type)]


def get_session(context: Context, *, keeps_memory: bool = True) -> Session:
    """Return the session of the step's model on the context's device, kept in this process by its digest.

    A model without a network for torch runs by ONNX Runtime, whatever the device.
    """
    model = context.model
    if model is None:
        raise ValueError("A family was run without a model.")
    if context.device != PROCESSOR and torch_sessions.can_run(model):
        return _in_batches(torch_sessions.get_loaded(context, model), context)
    key = ("onnx", model.key)
    loaded = context.keep(key, lambda: _load(model, keeps_memory=keeps_memory), lambda made: made.size)

    def forward(pixels: Any) -> Sequence[Any]:
        outputs = loaded.session.forward(pixels)
        if loaded.has_grown(pixels):
            context.weigh(key, loaded.size)
        return outputs

    return replace(loaded.session, forward=forward)


def name_device(device: str, family: str) -> Device:
    """Say what the networks of a family run on, where `device` is that of the context (as `get_session`).

    Call it only after a network ran there.
    """
    if device == PROCESSOR or not torch_sessions.serves(family):
        return devices.processor()
    return torch_sessions.name_device(device)


def _in_batches(loaded: torch_sessions.Loaded, context: Context) -> Session:
    """Return a session for one thread's pictures, which may be run together with those of others."""

    def forward(pixels: Floats) -> list[Floats]:
        # Between the tiles of a large picture it may end.
        context.checkpoint()
        return loaded.batcher.run(pixels, context.together)

    return Session(forward, loaded.shape)


def open_session(data: bytes, *, keeps_memory: bool = True) -> Session:
    """Make a session of an ONNX file, on the CPU and in this thread alone. Raises MemoryError, and what
    ONNX Runtime does.

    `keeps_memory`: the largest run's memory is kept for the next, which saves time where runs are short.
    """
    import onnxruntime

    options = make_options()
    options.enable_cpu_mem_arena = keeps_memory
    with telling_of_memory():
        inner = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    first = inner.get_inputs()[0]
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in first.shape)
    dtype = np.float16 if first.type == "tensor(float16)" else np.float32
    return Session(_forward(inner, first.name), shape, dtype)


def _forward(inner: Any, name: str) -> Callable[[Any], Sequence[Any]]:
    def forward(pixels: Any) -> Sequence[Any]:
        try:
            with telling_of_memory():
                outputs: Sequence[Any] = inner.run(None, {name: pixels})
        except MemoryError:
            raise
        except Exception as error:
            logger.warning("A model broke down over an input of %s", pixels.shape, exc_info=True)
            raise ModelFault(BREAKS_DOWN) from error
        return outputs

    return forward


@dataclass
class _Loaded:
    """A session that is kept, and what it holds: with the weights the memory of its largest run.

    Attributes:
        largest: numbers of the largest input that it was given; 0 where it keeps no memory.
    """

    session: Session
    weights: int
    largest: int

    @property
    def size(self) -> int:
        """In bytes."""
        return _BYTES_A_BYTE * self.weights + _BYTES_AN_INPUT_NUMBER * self.largest

    def has_grown(self, pixels: NDArray[Any]) -> bool:
        """Whether a run over this input took more than those before it."""
        if not 0 < self.largest < pixels.size:
            return False
        self.largest = pixels.size
        return True


def _load(model: Model, *, keeps_memory: bool) -> _Loaded:
    data = model.read("model.onnx")
    session = open_session(data, keeps_memory=keeps_memory)
    if not keeps_memory:
        return _Loaded(session, len(data), 0)
    _warm(session)
    return _Loaded(session, len(data), math.prod(_sides(session, _LARGE_SIDE)))


def _warm(session: Session) -> None:
    """Run once: the first run plans and allocates what the later ones use."""
    try:
        session.run(np.zeros(_sides(session, _WARMING_SIDE), np.float32))
    except ModelFault:
        logger.info("A model takes no input as small as %s: the first picture warms it", _WARMING_SIDE)


def _sides(session: Session, free: int) -> list[int]:
    """The input's shape, with a length for the sides that may have any."""
    return [size or (1, 3, free, free)[axis] for axis, size in enumerate(session.shape)]
