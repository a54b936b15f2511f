"""Sessions of converted models, warmed and kept between pictures: ONNX Runtime's, or torch's on a GPU."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers import devices
from workers.devices import Device
from workers.inference import model_process, torch_sessions
from workers.inference.errors import BREAKS_DOWN, ModelFault
from workers.inference.inputs import PlannedInput
from workers.inference.model_process import ModelProcess
from workers.onnx_runtime import open_runtime_session, raise_memory_errors
from workers.plugin import PROCESSOR, Context, Model

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
_WARMING_SIDE = 64
# Of processor time, to load a network, and more by its size: one of a gigabyte takes some ten.
_LOAD_SECONDS = 10.0
_LOAD_SECONDS_A_BYTE = 5e-8


@dataclass(frozen=True)
class Session:
    """A model ready to run. `shape` is that of its one input, None where any size will do.

    `takes_planned`: `forward` takes a `PlannedInput` as it is.
    """

    forward: Callable[[Any], Sequence[Any]]
    shape: tuple[int | None, ...]
    dtype: type[np.generic] = np.float32
    takes_planned: bool = False

    def run(self, pixels: Floats | PlannedInput) -> list[Floats]:
        """Return all outputs for one input.

        Raises MemoryError, ModelFault, DeviceLost, and what a checkpoint raises.
        """
        if isinstance(pixels, PlannedInput):
            if self.takes_planned and self.dtype == np.float32:
                return [np.asarray(output, np.float32) for output in self.forward(pixels)]
            pixels = pixels.to_array()
        with_type = pixels if pixels.dtype == self.dtype else pixels.astype(self.dtype)
        return [np.asarray(output, np.float32) for output in self.forward(with_type)]


def model_of(context: Context) -> Model:
    """Return the step's model: the engine hands over one to every family."""
    if context.model is None:
        raise ValueError("A family was run without a model.")
    return context.model


def get_session(context: Context, *, keeps_memory: bool = True) -> Session:
    """Return the session of the step's model on the context's device, kept in this process by its digest.

    A model without a network for torch runs by ONNX Runtime, whatever the device, and in a process of its own
    unless this one is shut in already.
    """
    model = model_of(context)
    if context.device != PROCESSOR and torch_sessions.can_run(model):
        return _in_batches(torch_sessions.get_loaded(context, model), context)
    key = ("onnx", model.key)
    if context.is_shut_in:
        with _blaming_memory(_own_limit()):
            return context.keep(key, lambda: _load_here(model, keeps_memory), lambda _: 0)

    def load() -> IsolatedNetwork:
        return IsolatedNetwork(model, context.network_seconds, keeps_memory=keeps_memory)

    network = context.keep(key, load, lambda made: made.size())

    def forward(pixels: Any) -> Sequence[Any]:
        context.checkpoint()
        outputs = network.run(pixels, context.network_seconds)
        # One that holds more than may be kept goes.
        context.weigh(key, network.size())
        return outputs

    return Session(forward, *network.input, takes_planned=True)


def name_device(device: str, family: str) -> Device:
    """Say what the networks of a family run on, where `device` is that of the context (as `get_session`).

    Call it only after a network ran there.
    """
    if device == PROCESSOR or not torch_sessions.serves(family):
        return devices.processor()
    return torch_sessions.name_device(device)


def open_session(data: bytes, *, keeps_memory: bool = True) -> Session:
    """Make a session of an ONNX file in this very process. Raises MemoryError, and what ONNX Runtime does.

    Only for processes that are shut in, or for graphs of our own making.

    `keeps_memory`: the largest run's memory is kept for the next, which saves time where runs are short.
    """
    with raise_memory_errors():
        inner = open_runtime_session(data, keeps_memory=keeps_memory)
    first = inner.get_inputs()[0]
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in first.shape)
    dtype = np.float16 if first.type == "tensor(float16)" else np.float32
    return Session(_forward(inner, first.name), shape, dtype)


class IsolatedNetwork:
    """A model's network in processes that can do nothing else: one for each thread that runs it at a time.

    A process that broke down, or whose run took too long, has ended; the next run starts another.

    Attributes:
        input: shape and type of its one input, as `Session` has them.
    """

    def __init__(self, model: Model, seconds: float, *, keeps_memory: bool) -> None:
        """Load it.

        Args:
            seconds: of processor time that a first run may take, to warm it.

        Raises: ModelFault, OSError.
        """
        self._model = model
        self._keeps_memory = keeps_memory
        self._idle: list[ModelProcess] = []
        self._sizes: dict[int, int] = {}
        with _blaming_memory(model_process.memory_limit(), is_setting=True):
            first = self._start(seconds, warms=keeps_memory)
        self.input = (first.shape, _type_of(first))
        self._put_back(first)

    def size(self) -> int:
        """Return how many bytes of memory its processes hold, as last seen."""
        return sum(list(self._sizes.values()))

    def run(self, pixels: NDArray[Any] | PlannedInput, seconds: float) -> list[Floats]:
        """Return all outputs for one input.

        Where memory runs out, it is tried once more in a new process: what earlier inputs left behind is no
        fault of this one.

        Args:
            seconds: of processor time that the run may take.

        Raises: ModelFault, OSError.
        """
        idle = self._take_idle()
        if idle is not None:
            with suppress(MemoryError):
                return self._run(idle, pixels, seconds)
        with _blaming_memory(model_process.memory_limit(), is_setting=True):
            return self._run(self._start(seconds, warms=False), pixels, seconds)

    def _run(
        self, process: ModelProcess, pixels: NDArray[Any] | PlannedInput, seconds: float
    ) -> list[Floats]:
        try:
            with telling_faults(self._model.key, pixels.shape, seconds):
                outputs = process.run(pixels, seconds=seconds)
        except BaseException as error:
            self._sizes.pop(id(process), None)
            if isinstance(error, ModelFault) and not error.killed:
                self._put_back(process)
            else:
                process.kill()
            raise
        self._put_back(process)
        return outputs

    def _start(self, seconds: float, *, warms: bool) -> ModelProcess:
        data = self._model.read("model.onnx")
        load_seconds = _LOAD_SECONDS + _LOAD_SECONDS_A_BYTE * len(data)
        with telling_faults(self._model.key, (), load_seconds):
            process = ModelProcess(data, keeps_memory=self._keeps_memory, seconds=load_seconds)
        if warms:

            def run(pixels: Floats) -> None:
                with telling_faults(self._model.key, pixels.shape, seconds):
                    process.run(pixels.astype(_type_of(process)), seconds=seconds)

            _warm(run, process.shape)
        return process

    def _take_idle(self) -> ModelProcess | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _put_back(self, process: ModelProcess) -> None:
        self._sizes[id(process)] = process.growth()
        self._idle.append(process)


def _type_of(process: ModelProcess) -> type[np.generic]:
    return np.float16 if process.type == "tensor(float16)" else np.float32


@contextmanager
def _blaming_memory(limit: int, *, is_setting: bool = False) -> Iterator[None]:
    """Say of a fresh process without enough memory, of `limit` bytes, that the model needs too much."""
    try:
        yield
    except MemoryError as error:
        raise ModelFault.out_of_memory(limit, is_setting=is_setting) from error


@contextmanager
def telling_faults(digest: str, shape: Sequence[int], seconds: float) -> Iterator[None]:
    """Raise ModelFault for what a model's process did while the block ran."""
    try:
        yield
    except model_process.Overran as error:
        raise ModelFault.overran(digest, seconds) from error
    except model_process.Killed as error:
        logger.warning("Model %s was killed over an input of %s: %s", digest, shape, error)
        raise ModelFault.killed_for_memory(digest) from error
    except model_process.Crashed as error:
        logger.warning("Model %s broke its process over an input of %s: %s", digest, shape, error)
        raise ModelFault.crashed(digest) from error
    except model_process.Failed as error:
        logger.warning("Model %s fails over an input of %s: %s", digest, shape, error)
        raise ModelFault(BREAKS_DOWN) from error


def _in_batches(loaded: torch_sessions.Loaded, context: Context) -> Session:
    """Return a session for one thread's pictures, which may be run together with those of others."""

    def forward(pixels: Floats) -> list[Floats]:
        # Between the tiles of a large picture it may end.
        context.checkpoint()
        try:
            return loaded.batcher.run(pixels, context.together)
        except MemoryError as error:
            if context.device == torch_sessions.TORCH_PROCESSOR:
                raise
            raise ModelFault.out_of_gpu_memory() from error

    return Session(forward, loaded.shape)


def _forward(inner: Any, name: str) -> Callable[[Any], Sequence[Any]]:
    def forward(pixels: Any) -> Sequence[Any]:
        try:
            with raise_memory_errors():
                outputs: Sequence[Any] = inner.run(None, {name: pixels})
        except MemoryError:
            raise
        except Exception as error:
            logger.warning("A model broke down over an input of %s", pixels.shape, exc_info=True)
            raise ModelFault(BREAKS_DOWN) from error
        return outputs

    return forward


def _load_here(model: Model, keeps_memory: bool) -> Session:
    inner = open_session(model.read("model.onnx"), keeps_memory=keeps_memory)

    def forward(pixels: Any) -> Sequence[Any]:
        with _blaming_memory(_own_limit()):
            return inner.forward(pixels)

    session = replace(inner, forward=forward)
    if keeps_memory:
        _warm(session.run, session.shape)
    return session


def _own_limit() -> int:
    """Return how much memory this process may have, in bytes; 0 for no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return 0 if limit == resource.RLIM_INFINITY else limit


def _warm(run: Callable[[Floats], Any], shape: Sequence[int | None]) -> None:
    """Run once: the first run plans and allocates what the later ones use."""
    try:
        run(np.zeros(_sides(shape, _WARMING_SIDE), np.float32))
    except ModelFault as fault:
        if fault.killed:
            raise
        logger.info("A model takes no input as small as %s: the first picture warms it", _WARMING_SIDE)


def _sides(shape: Sequence[int | None], free: int) -> list[int]:
    """Return the input's shape, with a length for the sides that may have any."""
    return [size or (1, 3, free, free)[axis] for axis, size in enumerate(shape)]
