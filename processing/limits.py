"""Stopping work on a picture from outside: when its time is up, or when nobody wants its result any more."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

# An interruption can be lost in code that swallows everything, so it is repeated.
AGAIN_SECONDS = 1.0


class Interrupted(BaseException):
    """Work on a picture shall end at once. No `except Exception` of an operation holds it up."""


class TookTooLong(Interrupted):
    """The time for one picture has run out."""


class Unwanted(Interrupted):
    """Nobody wants the result any more: the job was cancelled, or the item is another slot's now."""


@dataclass(frozen=True)
class Block:
    """A `time_limit` that the main thread is in; times are those of `time.monotonic`."""

    begun: float
    ends: float
    is_wanted: Callable[[], bool]


_block: Block | None = None


@contextmanager
def time_limit(seconds: float, *, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Raise TookTooLong in this block when it runs longer than `seconds` of wall time.

    `interrupt` has it look whether it `is_wanted` still, and raise Unwanted if not. Works in the main thread
    only, which is where a slot runs, and between two steps of Python: one call into C is not cut short.
    """
    global _block
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Never put back: a signal that comes late must find a handler, for without one it ends the process.
    signal.signal(signal.SIGALRM, _ring)
    try:
        try:
            now = time.monotonic()
            _block = Block(now, now + seconds, is_wanted)
            signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
            _check(_block)
            yield
        finally:
            _block = None
    finally:
        # Twice, for an interruption may come just before the first.
        _block = None
        signal.setitimer(signal.ITIMER_REAL, 0)


def running() -> Block | None:
    """Return the `time_limit` that the main thread is in, if it is in one. For other threads."""
    return _block


def interrupt() -> None:
    """Have the main thread look whether it shall go on. For other threads."""
    main = threading.main_thread().ident
    if main is not None and _block is not None:
        signal.pthread_kill(main, signal.SIGALRM)


def _ring(_signal: int, _frame: FrameType | None) -> None:
    # In the main thread, between two of its steps, so the block is the one that runs now, or there is none.
    if _block is not None:
        _check(_block)


def _check(block: Block) -> None:
    if not block.is_wanted():
        raise Unwanted
    if time.monotonic() >= block.ends:
        raise TookTooLong
