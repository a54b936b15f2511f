"""Sessions of converted models, warmed up and cached between images: ONNX Runtime, or torch on a GPU."""

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
from workers.inference.errors import FAILS, ModelFault
from workers.inference.inputs import PlannedInput
from workers.inference.model_process import ModelProcess
from workers.onnx_runtime import open_runtime_session, raise_memory_errors
from workers.plugin import PROCESSOR, Context, Model

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
_WARM_UP_SIDE = 64
# CPU time limit for loading a network: a base, and more by its size. 1 GB takes about ten seconds.
_LOAD_SECONDS = 10.0
_LOAD_SECONDS_PER_BYTE = 5e-8


@dataclass(frozen=True)
class Session:
    """A model that is ready to run. `shape` is that of its only input. None: any length.

    `takes_planned`: whether `forward` accepts a `PlannedInput`.
    """

    forward: Callable[[Any], Sequence[Any]]
    shape: tuple[int | None, ...]
    dtype: type[np.generic] = np.float32
    takes_planned: bool = False

    def run(self, pixels: Floats | PlannedInput) -> list[Floats]:
        """Return all outputs for one input.

        Raises MemoryError, ModelFault, DeviceLost, and the errors of `Context.checkpoint`.
        """
        if isinstance(pixels, PlannedInput):
            if self.takes_planned and self.dtype == np.float32:
                return [np.asarray(output, np.float32) for output in self.forward(pixels)]
            pixels = pixels.to_array()
        with_type = pixels if pixels.dtype == self.dtype else pixels.astype(self.dtype)
        return [np.asarray(output, np.float32) for output in self.forward(with_type)]


def model_of(context: Context) -> Model:
    """Return the step's model. The engine passes one to every family."""
    if context.model is None:
        raise ValueError("A family runs without a model.")
    return context.model


def get_session(context: Context, *, keeps_memory: bool = True) -> Session:
    """Return the session of the step's model on the context's device, cached in this process by digest.

    A model without a torch network runs in ONNX Runtime on any device. It gets a model process, unless this
    process is a sandbox already.
    """
    model = model_of(context)
    if context.device != PROCESSOR and torch_sessions.can_run(model):
        return _in_batches(torch_sessions.get_loaded(context, model), context)
    key = ("onnx", model.key)
    if context.is_shut_in:
        with _raise_out_of_memory(_own_limit()):
            return context.keep(key, lambda: _load_here(model, keeps_memory), lambda _: 0)

    def load() -> IsolatedNetwork:
        return IsolatedNetwork(model, context.network_seconds, keeps_memory=keeps_memory)

    network = context.keep(key, load, lambda loaded: loaded.size())

    def forward(pixels: Any) -> Sequence[Any]:
        context.checkpoint()
        outputs = network.run(pixels, context.network_seconds)
        # Evicts the network if it has outgrown the cache.
        context.weigh(key, network.size())
        return outputs

    return Session(forward, *network.input, takes_planned=True)


def name_device(device: str, family: str) -> Device:
    """Return the device on which a family's networks run. `device` is that of the context.

    Call it only after a network ran there.
    """
    if device == PROCESSOR or not torch_sessions.serves(family):
        return devices.processor()
    return torch_sessions.name_device(device)


def open_session(data: bytes, *, keeps_memory: bool = True) -> Session:
    """Return a session of an ONNX file in this process. Raises MemoryError, and errors of ONNX Runtime.

    Only for sandbox processes, and for graphs that this code exported.

    `keeps_memory`: whether memory of the largest run stays allocated, which makes short runs faster.
    """
    with raise_memory_errors():
        inner = open_runtime_session(data, keeps_memory=keeps_memory)
    first = inner.get_inputs()[0]
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in first.shape)
    dtype = np.float16 if first.type == "tensor(float16)" else np.float32
    return Session(_forward(inner, first.name), shape, dtype)


class IsolatedNetwork:
    """A model's network in model processes: one for each thread that runs it at the same time.

    A process ends after a crash or timeout. The next run starts another one.

    Attributes:
        input: shape and type of its only input, as in `Session`.
    """

    def __init__(self, model: Model, seconds: float, *, keeps_memory: bool) -> None:
        """Load the network.

        Args:
            seconds: CPU time limit of the warm-up run.

        Raises: ModelFault, OSError.
        """
        self._model = model
        self._keeps_memory = keeps_memory
        self._idle: list[ModelProcess] = []
        self._sizes: dict[int, int] = {}
        with _raise_out_of_memory(model_process.memory_limit(), is_setting=True):
            first = self._start(seconds, warms_up=keeps_memory)
        self.input = (first.shape, _type_of(first))
        self._put_back(first)

    def size(self) -> int:
        """Return the memory of its processes in bytes, as last measured."""
        return sum(list(self._sizes.values()))

    def run(self, pixels: NDArray[Any] | PlannedInput, seconds: float) -> list[Floats]:
        """Return all outputs for one input.

        If memory runs out, it retries once in a new process, without the memory of earlier runs.

        Args:
            seconds: CPU time limit of the run.

        Raises: ModelFault, OSError.
        """
        idle = self._take_idle()
        if idle is not None:
            with suppress(MemoryError):
                return self._run(idle, pixels, seconds)
        with _raise_out_of_memory(model_process.memory_limit(), is_setting=True):
            return self._run(self._start(seconds, warms_up=False), pixels, seconds)

    def _run(
        self, process: ModelProcess, pixels: NDArray[Any] | PlannedInput, seconds: float
    ) -> list[Floats]:
        try:
            with raise_model_faults(self._model.key, pixels.shape, seconds):
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

    def _start(self, seconds: float, *, warms_up: bool) -> ModelProcess:
        data = self._model.read("model.onnx")
        load_seconds = _LOAD_SECONDS + _LOAD_SECONDS_PER_BYTE * len(data)
        with raise_model_faults(self._model.key, (), load_seconds):
            process = ModelProcess(data, keeps_memory=self._keeps_memory, seconds=load_seconds)
        if warms_up:

            def run(pixels: Floats) -> None:
                with raise_model_faults(self._model.key, pixels.shape, seconds):
                    process.run(pixels.astype(_type_of(process)), seconds=seconds)

            _warm_up(run, process.shape)
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
def _raise_out_of_memory(limit: int, *, is_setting: bool = False) -> Iterator[None]:
    """Turn MemoryError into ModelFault: the model needs more than the `limit` bytes of a new process."""
    try:
        yield
    except MemoryError as error:
        raise ModelFault.out_of_memory(limit, is_setting=is_setting) from error


@contextmanager
def raise_model_faults(digest: str, shape: Sequence[int], seconds: float) -> Iterator[None]:
    """Turn errors of a model process into ModelFault."""
    try:
        yield
    except model_process.Overran as error:
        raise ModelFault.overran(digest, seconds) from error
    except model_process.Killed as error:
        logger.warning("Model %s was killed on an input of shape %s: %s", digest, shape, error)
        raise ModelFault.killed_for_memory(digest) from error
    except model_process.Crashed as error:
        logger.warning("Model %s crashed on an input of shape %s: %s", digest, shape, error)
        raise ModelFault.crashed(digest) from error
    except model_process.Failed as error:
        logger.warning("Model %s failed on an input of shape %s: %s", digest, shape, error)
        raise ModelFault(FAILS) from error


def _in_batches(loaded: torch_sessions.Loaded, context: Context) -> Session:
    """Return a session for one thread's images. They may share batches with those of other threads."""

    def forward(pixels: Floats) -> list[Floats]:
        # A job may be canceled between the tiles of a large image.
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
            logger.warning("A model failed on an input of shape %s", pixels.shape, exc_info=True)
            raise ModelFault(FAILS) from error
        return outputs

    return forward


def _load_here(model: Model, keeps_memory: bool) -> Session:
    inner = open_session(model.read("model.onnx"), keeps_memory=keeps_memory)

    def forward(pixels: Any) -> Sequence[Any]:
        with _raise_out_of_memory(_own_limit()):
            return inner.forward(pixels)

    session = replace(inner, forward=forward)
    if keeps_memory:
        _warm_up(session.run, session.shape)
    return session


def _own_limit() -> int:
    """Return the memory limit of this process, in bytes. 0: no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return 0 if limit == resource.RLIM_INFINITY else limit


def _warm_up(run: Callable[[Floats], Any], shape: Sequence[int | None]) -> None:
    """Run the network once: the first run plans and allocates memory for later runs."""
    try:
        run(np.zeros(_sides(shape, _WARM_UP_SIDE), np.float32))
    except ModelFault as fault:
        if fault.killed:
            raise
        logger.info("A model accepts no input of %s pixels: the first image warms it up", _WARM_UP_SIDE)


def _sides(shape: Sequence[int | None], free: int) -> list[int]:
    """Return the input's shape, with `free` as the length of free sides."""
    return [size or (1, 3, free, free)[axis] for axis, size in enumerate(shape)]
