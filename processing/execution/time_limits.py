"""Interrupt work on an image when its time limit has passed or its result is no longer needed."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

# Code that catches everything can swallow an interruption, so it is repeated.
REPEAT_SECONDS = 1.0


class WorkInterrupted(BaseException):
    """Ends work on an image at once. A BaseException, so that `except Exception` in operations misses it."""


class TookTooLong(WorkInterrupted):
    """The time limit of one image has passed."""


class Unwanted(WorkInterrupted):
    """The result is no longer needed: the job was canceled, or another slot owns the item."""


@dataclass(frozen=True)
class Block:
    """A running `time_limit` block of a thread. Times are those of `time.monotonic`."""

    begun: float
    ends: float
    is_wanted: Callable[[], bool]


_block: Block | None = None


# Blocks of threads other than the main one, by thread ident.
_thread_blocks: dict[int, Block] = {}


@contextmanager
def time_limit(seconds: float, *, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Raise TookTooLong in this block when it runs longer than `seconds` of wall time.

    `interrupt` makes the block call `is_wanted` and raise Unwanted if the answer is false. That works only in
    the main thread and between two Python instructions: a call into C is not interrupted. Other threads end
    their block only where they call `check`. Their starter handles those that do not: `running_in_threads`.
    """
    global _block
    if threading.current_thread() is not threading.main_thread():
        with _thread_time_limit(Block(time.monotonic(), time.monotonic() + seconds, is_wanted)):
            yield
        return
    # Never restored: a late signal without a handler would end the process.
    signal.signal(signal.SIGALRM, _on_alarm)
    try:
        try:
            now = time.monotonic()
            _block = Block(now, now + seconds, is_wanted)
            signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_SECONDS)
            _check(_block)
            yield
        finally:
            _block = None
    finally:
        # Repeated, because an interruption may come just before the first assignment.
        _block = None
        signal.setitimer(signal.ITIMER_REAL, 0)


def check() -> None:
    """Raise Unwanted or TookTooLong if the `time_limit` block of this thread has to end."""
    is_main = threading.current_thread() is threading.main_thread()
    block = _block if is_main else _thread_blocks.get(threading.get_ident())
    if block is not None:
        _check(block)


def running_in_threads() -> dict[int, Block]:
    """Return the `time_limit` blocks of threads other than the main one, by thread ident."""
    return dict(_thread_blocks)


def forget(ident: int) -> None:
    """Stop tracking the `time_limit` block of a thread that does not end."""
    _thread_blocks.pop(ident, None)


def running() -> Block | None:
    """Return the `time_limit` block of the main thread, or None. For other threads."""
    return _block


def interrupt() -> None:
    """Make the main thread check whether its block has to end. For other threads."""
    main = threading.main_thread().ident
    if main is not None and _block is not None:
        signal.pthread_kill(main, signal.SIGALRM)


@contextmanager
def _thread_time_limit(block: Block) -> Iterator[None]:
    ident = threading.get_ident()
    _thread_blocks[ident] = block
    try:
        _check(block)
        yield
    finally:
        _thread_blocks.pop(ident, None)


def _on_alarm(_signal: int, _frame: FrameType | None) -> None:
    # Runs in the main thread between two instructions, so `_block` is the current block or None.
    if _block is not None:
        _check(_block)


def _check(block: Block) -> None:
    if not block.is_wanted():
        raise Unwanted
    if time.monotonic() >= block.ends:
        raise TookTooLong
