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


class WorkInterrupted(BaseException):
    """Work on a picture shall end at once. No `except Exception` of an operation holds it up."""


class TookTooLong(WorkInterrupted):
    """The time for one picture has run out."""


class Unwanted(WorkInterrupted):
    """Nobody wants the result any more: the job was cancelled, or the item is another slot's now."""


@dataclass(frozen=True)
class Block:
    """A `time_limit` that a thread is in; times are those of `time.monotonic`."""

    begun: float
    ends: float
    is_wanted: Callable[[], bool]


_block: Block | None = None


# Those that other threads are in, by the thread's ident.
_beside: dict[int, Block] = {}


@contextmanager
def time_limit(seconds: float, *, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Raise TookTooLong in this block when it runs longer than `seconds` of wall time.

    `interrupt` has it look whether it `is_wanted` still, and raise Unwanted if not. That works in the main
    thread only, and between two steps of Python: one call into C is not cut short. In other threads the block
    ends where it calls `check`, and whoever started the thread looks after the rest: see `running_beside`.
    """
    global _block
    if threading.current_thread() is not threading.main_thread():
        with _limit_beside(Block(time.monotonic(), time.monotonic() + seconds, is_wanted)):
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


def check() -> None:
    """Raise Unwanted or TookTooLong where the `time_limit` that this thread is in has to end."""
    is_main = threading.current_thread() is threading.main_thread()
    block = _block if is_main else _beside.get(threading.get_ident())
    if block is not None:
        _check(block)


def running_beside() -> dict[int, Block]:
    """Return the `time_limit`s that threads beside the main one are in, by their idents."""
    return dict(_beside)


def forget(ident: int) -> None:
    """Look no more after the `time_limit` of a thread that does not end."""
    _beside.pop(ident, None)


def running() -> Block | None:
    """Return the `time_limit` that the main thread is in, if it is in one. For other threads."""
    return _block


def interrupt() -> None:
    """Have the main thread look whether it shall go on. For other threads."""
    main = threading.main_thread().ident
    if main is not None and _block is not None:
        signal.pthread_kill(main, signal.SIGALRM)


@contextmanager
def _limit_beside(block: Block) -> Iterator[None]:
    ident = threading.get_ident()
    _beside[ident] = block
    try:
        _check(block)
        yield
    finally:
        _beside.pop(ident, None)


def _ring(_signal: int, _frame: FrameType | None) -> None:
    # In the main thread, between two of its steps, so the block is the one that runs now, or there is none.
    if _block is not None:
        _check(_block)


def _check(block: Block) -> None:
    if not block.is_wanted():
        raise Unwanted
    if time.monotonic() >= block.ends:
        raise TookTooLong
