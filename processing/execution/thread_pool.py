"""Running a chunk's pictures by several threads: while a GPU runs some, others are decoded or encoded.

The main thread looks after the others. It keeps the lease, and gives up on a picture that does not end. No
thread can be stopped from outside, so that costs the slot, but no other picture.
"""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from django.db import connections

from processing.execution import time_limits
from processing.execution.outcomes import Done
from processing.execution.time_limits import Unwanted
from processing.models import Item
from workers.plugin import DeviceLost

logger = logging.getLogger(__name__)

# How often the main thread looks.
TICK = 0.05
# What has not ended by itself so long after its time was up does not end.
GRACE = 1.0


@dataclass
class Chunk:
    """What came of a chunk.

    Attributes:
        left: items that were not begun.
        stuck: items that did not end in time. Their threads still run.
        is_broken: the slot is of no more use, because of these or because its GPU failed it.
        seconds: that a picture took, where that was measured.
        overlong_seconds: that pictures took which took far longer than expected.
    """

    done: list[Done] = field(default_factory=list)
    left: list[Item] = field(default_factory=list)
    stuck: list[Item] = field(default_factory=list)
    is_broken: bool = False
    seconds: float | None = None
    overlong_seconds: float = 0.0


class ThreadPool:
    """Threads that share items, each at one of them.

    Args:
        run: gives what came of an item, or None where it is left for another attempt. What it raises is not
            for one item alone, and ends the work of all.
    """

    def __init__(self, items: Sequence[Item], run: Callable[[Item], Done | None]) -> None:
        self._run = run
        self._waiting = deque(items)
        self._at: dict[int, Item] = {}
        self._ended: SimpleQueue[Done | None] = SimpleQueue()
        self._failures: list[BaseException] = []
        # Threads that have ended, or are given up.
        self._gone: set[int | None] = set()
        self._is_stopped = self._has_begun = False

    def running(self) -> int:
        """Return how many threads are at an item now."""
        return len(self._at)

    def work(self, threads: int, *, ends: float, looks: Callable[[], bool]) -> Chunk:
        """Run the items; return what came of them when all threads have ended, or are given up.

        Args:
            ends: the time of `time.monotonic` from when on only a first item is begun.
            looks: called all the while; false when nothing is wanted any more.

        Raises: what `run` or `looks` raised first, but for what Chunk tells.
        """
        number = min(threads, len(self._waiting))
        started = [
            threading.Thread(target=self._labour, args=(ends,), name="picture", daemon=True)
            for _ in range(number)
        ]
        for thread in started:
            thread.start()
        chunk = Chunk()
        while any(thread.ident not in self._gone for thread in started):
            self._collect(chunk, wait=TICK)
            self._look(looks)
            self._give_up_stuck(chunk)
        self._collect(chunk)
        chunk.left = list(self._waiting)
        chunk.is_broken = bool(chunk.stuck) or any(isinstance(one, DeviceLost) for one in self._failures)
        others = [one for one in self._failures if not isinstance(one, DeviceLost)]
        if others and not chunk.stuck:
            raise others[0]
        return chunk

    # --- In the main thread.

    def _collect(self, chunk: Chunk, *, wait: float = 0) -> None:
        """Take what has ended, and wait for the next a little."""
        try:
            done = self._ended.get(timeout=wait) if wait else self._ended.get_nowait()
            while True:
                if done is not None and done.item not in chunk.stuck:
                    chunk.done.append(done)
                done = self._ended.get_nowait()
        except Empty:
            return

    def _look(self, looks: Callable[[], bool]) -> None:
        if self._is_stopped:
            return
        try:
            self._is_stopped = not looks()
        except Exception as error:  # noqa: BLE001  (raised when no thread is at an item any more)
            self._fail(error)

    def _give_up_stuck(self, chunk: Chunk) -> None:
        for ident, block in time_limits.running_beside().items():
            item = self._at.get(ident)
            if item is None or time.monotonic() < block.ends + GRACE:
                continue
            logger.error("A picture of job %s takes too long and cannot be interrupted", item.job_id)
            self._is_stopped = True
            self._gone.add(ident)
            time_limits.forget(ident)
            self._collect(chunk)
            if all(done.item != item for done in chunk.done):
                chunk.stuck.append(item)

    # --- In the threads.

    def _labour(self, ends: float) -> None:
        ident = threading.get_ident()
        try:
            while (item := self._next(ends)) is not None:
                self._at[ident] = item
                self._ended.put(self._run(item))
                del self._at[ident]
        except Unwanted:
            self._is_stopped = True
        except BaseException as error:  # noqa: BLE001  (raised in the main thread)
            self._fail(error)
        finally:
            self._at.pop(ident, None)
            connections.close_all()
            self._gone.add(ident)
            self._ended.put(None)

    def _next(self, ends: float) -> Item | None:
        is_time_up = time.monotonic() > ends and self._has_begun
        if self._is_stopped or is_time_up:
            return None
        try:
            item = self._waiting.popleft()
        except IndexError:
            return None
        self._has_begun = True
        return item

    def _fail(self, error: BaseException) -> None:
        self._failures.append(error)
        self._is_stopped = True


def end_slot(why: str) -> None:
    """End this process at once. Its worker starts another, which takes up what this one was at."""
    logger.error("This slot ends: %s", why)
    os.kill(os.getpid(), signal.SIGKILL)
