"""Thread pool for the images of a chunk: while a GPU runs some, others are decoded or encoded.

The main thread supervises the others. It renews the lease and gives up images that do not end. Python cannot
stop a thread from outside, so that costs the slot, but no other image.
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

# Seconds between two checks of the main thread.
TICK = 0.05
# An image that runs this many seconds beyond its time limit is given up.
STOP_GRACE = 1.0


@dataclass
class Chunk:
    """Outcome of a chunk.

    Attributes:
        left: items that did not start.
        stuck: items that did not end in time. Their threads still run.
        is_broken: the slot must end, because of stuck items, a failed GPU or leaked memory.
        seconds: average time per image, if measured.
        overlong_seconds: total time of images that took far longer than expected.
    """

    done: list[Done] = field(default_factory=list)
    left: list[Item] = field(default_factory=list)
    stuck: list[Item] = field(default_factory=list)
    is_broken: bool = False
    seconds: float | None = None
    overlong_seconds: float = 0.0


class ThreadPool:
    """Threads that run items from a common queue, one item each at a time.

    Args:
        run: returns the outcome of an item, or None if it is left for another attempt. An exception stops
            all threads.
    """

    def __init__(self, items: Sequence[Item], run: Callable[[Item], Done | None]) -> None:
        self._run = run
        self._waiting = deque(items)
        self._running: dict[int, Item] = {}
        self._outcomes: SimpleQueue[Done | None] = SimpleQueue()
        self._failures: list[BaseException] = []
        # Idents of threads that ended or were given up.
        self._finished: set[int | None] = set()
        self._is_stopped = self._has_begun = False

    def running(self) -> int:
        """Return how many threads run an item now."""
        return len(self._running)

    def work(self, threads: int, *, ends: float, keep_going: Callable[[], bool]) -> Chunk:
        """Run the items; return their outcomes when all threads have ended or were given up.

        Args:
            threads: number of threads.
            ends: time of `time.monotonic`. No item starts later, except the first one.
            keep_going: called repeatedly. False stops the pool, because the results are no longer needed.

        Raises: the first exception of `run` or `keep_going`, unless it is `DeviceLost` or items are stuck.
        """
        number = min(threads, len(self._waiting))
        started = [
            threading.Thread(target=self._run_items, args=(ends,), name="image", daemon=True)
            for _ in range(number)
        ]
        for thread in started:
            thread.start()
        chunk = Chunk()
        while any(thread.ident not in self._finished for thread in started):
            self._collect(chunk, wait=TICK)
            self._check_keep_going(keep_going)
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
        """Move finished outcomes to the chunk. Wait up to `wait` seconds for the first one."""
        try:
            done = self._outcomes.get(timeout=wait) if wait else self._outcomes.get_nowait()
            while True:
                if done is not None and done.item not in chunk.stuck:
                    chunk.done.append(done)
                done = self._outcomes.get_nowait()
        except Empty:
            return

    def _check_keep_going(self, keep_going: Callable[[], bool]) -> None:
        if self._is_stopped:
            return
        try:
            self._is_stopped = not keep_going()
        except Exception as error:  # noqa: BLE001  (raised when all threads have ended)
            self._fail(error)

    def _give_up_stuck(self, chunk: Chunk) -> None:
        for ident, block in time_limits.running_in_threads().items():
            item = self._running.get(ident)
            if item is None or time.monotonic() < block.ends + STOP_GRACE:
                continue
            logger.error("An image of job %s takes too long and cannot be interrupted", item.job_id)
            self._is_stopped = True
            self._finished.add(ident)
            time_limits.forget(ident)
            self._collect(chunk)
            if all(done.item != item for done in chunk.done):
                chunk.stuck.append(item)

    # --- In the threads.

    def _run_items(self, ends: float) -> None:
        ident = threading.get_ident()
        try:
            while (item := self._next(ends)) is not None:
                self._running[ident] = item
                self._outcomes.put(self._run(item))
                del self._running[ident]
        except Unwanted:
            self._is_stopped = True
        except BaseException as error:  # noqa: BLE001  (raised in the main thread)
            self._fail(error)
        finally:
            self._running.pop(ident, None)
            connections.close_all()
            self._finished.add(ident)
            self._outcomes.put(None)

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
    """Kill this process. Its worker starts a new slot, and the items are retried."""
    logger.error("This slot ends: %s", why)
    os.kill(os.getpid(), signal.SIGKILL)
