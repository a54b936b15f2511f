"""Dynamic batching: run the waiting requests of several threads to one network together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.plugin import DeviceLost, alone

Floats = NDArray[np.float32]
# Larger batches are not faster, and memory grows with the batch size.
MOST_IMAGES = 16
MOST_BYTES = 96 * 1024 * 1024
# A batch waits this long for images of other threads, in seconds. One run takes about as long.
MAX_WAIT = 0.003


class BatchRunner(Protocol):
    """Runs batches on a device. One thread at a time calls `start`; several call `enter` and `finish`."""

    def enter(self, pixels: Floats, /) -> Any:
        """Copy an input (n, …) to the device. Raises MemoryError, DeviceLost."""

    def start(self, inputs: Sequence[Any], /) -> Any:
        """Start a run of inputs of one shape; return the argument of `finish`. Raises as `enter`."""

    def finish(self, started: Any, /) -> list[list[Floats]]:
        """Wait for the run; return the outputs of each input. Raises as `enter`."""


@dataclass(eq=False)
class _Request:
    """One thread's input. `waits` is true until a batch takes it, `is_done` once it has an answer."""

    input: Any
    shape: tuple[int, ...]
    images: int
    size: int
    waits: bool = True
    is_alone: bool = False
    is_done: bool = False
    outputs: list[Floats] = field(default_factory=list)
    error: Exception | None = None

    def end(self, outputs: list[Floats], error: Exception | None = None) -> None:
        self.outputs, self.error, self.is_done = outputs, error, True
        self.input = None

    def answer(self) -> list[Floats]:
        if self.error is not None:
            raise self.error
        return self.outputs


class Batcher:
    """Batches requests to one network. One of the waiting threads leads: it runs the batch for all."""

    def __init__(
        self,
        network: BatchRunner,
        *,
        most_images: int = MOST_IMAGES,
        most_bytes: int = MOST_BYTES,
        max_wait: float = MAX_WAIT,
    ) -> None:
        self._network = network
        self._most_bytes = most_bytes
        self._max_wait = max_wait
        self._most_images = most_images
        # Lower batch sizes of shapes that did not fit into the device's memory.
        self._fitting: dict[tuple[int, ...], int] = {}
        self._waiting: deque[_Request] = deque()
        self._under_way = 0
        self._is_led = False
        self._changed = threading.Condition()

    def run(self, pixels: Floats, together: Callable[[], int] = alone) -> list[Floats]:
        """Return all outputs for an input (n, …). It may share a batch with others of its shape.

        Args:
            together: returns the number of threads that run images now. The batch starts at once when all
                of them wait.

        Raises:
            MemoryError: the input alone does not fit into the device's memory.
            DeviceLost: the device has failed.
        """
        request = _Request(self._network.enter(pixels), pixels.shape[1:], len(pixels), pixels.nbytes)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
        try:
            while batch := self._lead(request, together):
                self._run_batch(batch)
        finally:
            self._forget(request)
        return request.answer()

    # --- Choice of the leading thread and its batch.

    def _lead(self, request: _Request, together: Callable[[], int]) -> list[_Request]:
        """Wait for the answer and return nothing, or become the leader and return a batch to run."""
        with self._changed:
            self._changed.wait_for(lambda: request.is_done or (request.waits and not self._is_led))
            if request.is_done:
                return []
            self._is_led = True
            try:
                self._wait_for_others(together)
            except BaseException:
                self._is_led = False
                raise
            return self._take()

    def _wait_for_others(self, together: Callable[[], int]) -> None:
        ends = time.monotonic() + self._max_wait
        while len(self._waiting) + self._under_way < together() and not self._is_full():
            left = ends - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)

    def _is_full(self) -> bool:
        same_shape = self._waiting_of_one_shape()
        chosen = self._choose(same_shape)
        images = sum(request.images for request in chosen)
        is_large = images >= self._most_of(same_shape[0].shape)
        return len(chosen) < len(same_shape) or same_shape[0].is_alone or is_large

    def _take(self) -> list[_Request]:
        """Take the oldest request and others of its shape, up to the batch limits."""
        batch = self._choose(self._waiting_of_one_shape())
        for request in batch:
            request.waits = False
            self._waiting.remove(request)
        self._under_way += len(batch)
        return batch

    def _waiting_of_one_shape(self) -> list[_Request]:
        shape = self._waiting[0].shape
        return [request for request in self._waiting if request.shape == shape]

    def _most_of(self, shape: tuple[int, ...]) -> int:
        return self._fitting.get(shape, self._most_images)

    def _choose(self, requests: Sequence[_Request]) -> list[_Request]:
        if requests[0].is_alone:
            return [requests[0]]
        most = self._most_of(requests[0].shape)
        batch: list[_Request] = []
        images = size = 0
        for request in requests:
            images, size = images + request.images, size + request.size
            if batch and (request.is_alone or images > most or size > self._most_bytes):
                break
            batch.append(request)
        return batch

    # --- Run of a batch.

    def _run_batch(self, batch: list[_Request]) -> None:
        try:
            try:
                started = self._network.start([request.input for request in batch])
            finally:
                # Another thread starts the next batch while this one waits for the results.
                self._end_lead()
            outputs = self._network.finish(started)
        except Exception as error:  # noqa: BLE001  (raised in the threads of the batch)
            self._fail(batch, error)
        except BaseException:
            self._put_back(batch)
            raise
        else:
            self._end(batch, outputs)

    def _end_lead(self) -> None:
        with self._changed:
            self._is_led = False
            self._changed.notify_all()

    def _end(self, batch: Sequence[_Request], outputs: Sequence[list[Floats]]) -> None:
        with self._changed:
            self._under_way -= len(batch)
            for request, own in zip(batch, outputs, strict=True):
                request.end(own)
            self._changed.notify_all()

    def _fail(self, batch: Sequence[_Request], error: Exception) -> None:
        """Retry a failed batch in smaller parts, so that one bad input does not fail the others."""
        if len(batch) == 1 or isinstance(error, DeviceLost):
            with self._changed:
                self._under_way -= len(batch)
                for request in batch:
                    request.end([], error)
                self._changed.notify_all()
            return
        if isinstance(error, MemoryError):
            images = sum(request.images for request in batch)
            with self._changed:
                self._fitting[batch[0].shape] = max(1, images // 2)
        else:
            for request in batch:
                request.is_alone = True
        self._put_back(batch)

    def _put_back(self, batch: Sequence[_Request]) -> None:
        with self._changed:
            self._under_way -= len(batch)
            for request in batch:
                request.waits = True
            self._waiting.extendleft(reversed(batch))
            self._changed.notify_all()

    def _forget(self, request: _Request) -> None:
        """Remove the request of an interrupted thread, so that no other thread runs it."""
        with self._changed:
            if request in self._waiting:
                self._waiting.remove(request)
                self._changed.notify_all()
