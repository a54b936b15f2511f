"""Requests of several threads to one network, run together: what waits when it is free is a batch."""

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
# More pictures at once make nothing faster, and memory goes by their number.
MOST_PICTURES = 16
MOST_BYTES = 96 * 1024 * 1024
# So long, in seconds, does a batch wait for pictures of other threads. It is about what one run takes.
PATIENCE = 0.003


class BatchRunner(Protocol):
    """What runs batches. `start` is called by one thread at a time, `enter` and `finish` by several."""

    def enter(self, pixels: Floats, /) -> Any:
        """Bring an input (n, …) to the device. Raises MemoryError, DeviceLost."""

    def start(self, inputs: Sequence[Any], /) -> Any:
        """Begin to run inputs of one shape together; return what `finish` takes. Raises as `enter`."""

    def finish(self, started: Any, /) -> list[list[Floats]]:
        """Wait for it; return the outputs of each input. Raises as `enter`."""


@dataclass(eq=False)
class _Request:
    """One thread's input. `waits` until a batch takes it; then `is_done` is near."""

    input: Any
    shape: tuple[int, ...]
    pictures: int
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
    """Stands in front of a network. Of the threads that wait for it one leads: it runs a batch for them."""

    def __init__(
        self,
        network: BatchRunner,
        *,
        most_pictures: int = MOST_PICTURES,
        most_bytes: int = MOST_BYTES,
        patience: float = PATIENCE,
    ) -> None:
        self._network = network
        self._most_bytes = most_bytes
        self._patience = patience
        self._most_pictures = most_pictures
        # Of shapes of which fewer fit into the device's memory.
        self._fitting: dict[tuple[int, ...], int] = {}
        self._waiting: deque[_Request] = deque()
        self._under_way = 0
        self._is_led = False
        self._changed = threading.Condition()

    def run(self, pixels: Floats, together: Callable[[], int] = alone) -> list[Floats]:
        """Return all outputs for an input (n, …), which may be run with others of its shape.

        Args:
            together: how many threads run pictures now. When as many wait, nobody is waited for.

        Raises:
            MemoryError: it does not fit into the device's memory, alone.
            DeviceLost: nothing runs on the device any more.
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

    # --- Who leads, and with what.

    def _lead(self, request: _Request, together: Callable[[], int]) -> list[_Request]:
        """Wait for the answer, or until nobody leads: then return a batch for this thread to run."""
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
        ends = time.monotonic() + self._patience
        while len(self._waiting) + self._under_way < together() and not self._is_full():
            left = ends - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)

    def _is_full(self) -> bool:
        alike = self._alike()
        chosen = self._choose(alike)
        pictures = sum(request.pictures for request in chosen)
        return len(chosen) < len(alike) or alike[0].is_alone or pictures >= self._most_of(alike[0].shape)

    def _take(self) -> list[_Request]:
        """Take the oldest, and those of its shape that go with it."""
        batch = self._choose(self._alike())
        for request in batch:
            request.waits = False
            self._waiting.remove(request)
        self._under_way += len(batch)
        return batch

    def _alike(self) -> list[_Request]:
        shape = self._waiting[0].shape
        return [request for request in self._waiting if request.shape == shape]

    def _most_of(self, shape: tuple[int, ...]) -> int:
        return self._fitting.get(shape, self._most_pictures)

    def _choose(self, alike: Sequence[_Request]) -> list[_Request]:
        if alike[0].is_alone:
            return [alike[0]]
        most = self._most_of(alike[0].shape)
        batch: list[_Request] = []
        pictures = size = 0
        for request in alike:
            pictures, size = pictures + request.pictures, size + request.size
            if batch and (request.is_alone or pictures > most or size > self._most_bytes):
                break
            batch.append(request)
        return batch

    # --- What becomes of a batch.

    def _run_batch(self, batch: list[_Request]) -> None:
        try:
            try:
                started = self._network.start([request.input for request in batch])
            finally:
                # While this thread waits for the results, another one begins the next batch.
                self._end_lead()
            outputs = self._network.finish(started)
        except Exception as error:  # noqa: BLE001  (handed to those who asked)
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
        """One bad input must not take others with it: what failed together is tried in smaller parts."""
        if len(batch) == 1 or isinstance(error, DeviceLost):
            with self._changed:
                self._under_way -= len(batch)
                for request in batch:
                    request.end([], error)
                self._changed.notify_all()
            return
        if isinstance(error, MemoryError):
            pictures = sum(request.pictures for request in batch)
            with self._changed:
                self._fitting[batch[0].shape] = max(1, pictures // 2)
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
        """Of whoever was interrupted, nothing must stay for others to run."""
        with self._changed:
            if request in self._waiting:
                self._waiting.remove(request)
                self._changed.notify_all()
