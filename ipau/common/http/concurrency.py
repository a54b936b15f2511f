"""Limits on requests that wait: how many threads of this web process they may hold, in all and per person.

A request that waits for a preview, a prediction, the bucket or a mail server holds a thread and does nothing.
Without a limit, a few clients hold all threads, and nobody gets a page. What is waited for makes no
difference: all waits of a process share one limit.

Only requests are limited. Workers and commands have no request, and wait as long as they like.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.http import HttpResponseBase
from django.utils.translation import gettext as _

from ipau.common.errors import DomainError, RateLimited, Unavailable

# Seconds after which a refused client may try again: most waits are shorter.
RETRY_AFTER = 2
# A short wait stands in line for this long, but only while waits end at least this often.
QUEUE_SECONDS = 2.0
MOVING_SECONDS = 1.0


class _Current(threading.local):
    """Whose request this thread works on, and how it gives back its permit to wait, if it has one."""

    person: Callable[[], str] | None = None
    release: Callable[[], None] | None = None


class Limiter:
    """Counts who waits in this process. `total` and `per_person` are the most that may wait at once.

    Whoever holds permits gets another only while more are free than they hold: several people who take all
    they can still leave some to others.
    """

    def __init__(self, total: int, per_person: int):
        self.total, self.per_person = total, per_person
        # Previews of many people must not keep everybody from the bucket.
        self.short_total = total + total // 2
        self._freed = threading.Condition()
        self._people: Counter[str] = Counter()
        self._last_freed = float("-inf")

    def acquire(self, person: str, *, is_short: bool = False) -> Callable[[], None]:
        """Count one more wait of a person; return what ends it.

        Args:
            is_short: the wait may take one of half as many more permits, and one person any number of them.
                It stands in line while others end. When none ends for a second, it is refused at once: then
                the bucket, or whatever is waited for, does not answer.

        Raises:
            RateLimited: the person has too many.
            Unavailable: the process has too many.
        """
        total, most = (self.short_total,) * 2 if is_short else (self.total, self.per_person)
        ends = time.monotonic() + (QUEUE_SECONDS if is_short else 0)
        with self._freed:
            while refusal := self._refusal(person, total, most):
                left = min(ends, self._last_freed + MOVING_SECONDS) - time.monotonic()
                if left <= 0:
                    raise refusal
                self._freed.wait(left)
            self._people[person] += 1
        return _once(lambda: self._release(person))

    def _refusal(self, person: str, total: int, most: int) -> DomainError | None:
        held, free = self._people[person], total - self._people.total()
        if held >= most or (held and held >= free):
            text = _("You have several requests under way that wait. Try again when one has ended.")
            return RateLimited(text, retry_after=RETRY_AFTER)
        if free <= 0:
            text = _("Many requests are waiting just now. Try again in a moment.")
            return Unavailable(text, code="busy", retry_after=RETRY_AFTER)
        return None

    def _release(self, person: str) -> None:
        with self._freed:
            self._people[person] -= 1
            # Keeps no name of those who have gone.
            self._people = +self._people
            self._last_freed = time.monotonic()
            self._freed.notify_all()

    def waiting(self) -> int:
        """Return how many wait now."""
        with self._freed:
            return self._people.total()


def _once(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls this the first time only, whichever thread comes first."""
    lock = threading.Lock()
    return lambda: call() if lock.acquire(blocking=False) else None


_current = _Current()
_limiter = Limiter(settings.WEB_WAITERS, settings.WEB_WAITERS_PER_PERSON)


@contextmanager
def request_of(person: Callable[[], str]) -> Iterator[None]:
    """Work on a request in this block. `person` returns whose it is, as a text without white space."""
    _current.person = person
    try:
        yield
    finally:
        _current.person = None
        _release()


def person() -> str:
    """Return whose request this thread works on; "" outside of one."""
    return _current.person() if _current.person else ""


@contextmanager
def waiting(*, is_short: bool = False) -> Iterator[None]:
    """Wait in this block, which holds a permit of the process. Inside another such block it needs none.

    Args:
        is_short: as `Limiter.acquire` takes it. For waits of milliseconds, of which a page has many at once.

    Raises:
        RateLimited: this person waits for too much already.
        Unavailable: too many requests wait.
    """
    if _current.person is None or _current.release is not None:
        yield
        return
    _current.release = _limiter.acquire(_current.person(), is_short=is_short)
    try:
        yield
    finally:
        _release()


def reserve() -> None:
    """Take a permit that this request holds until it has been answered. Raises as `waiting`.

    For a request that would leave something half done if it had to wait later and was refused then.
    """
    if _current.person is not None and _current.release is None:
        _current.release = _limiter.acquire(_current.person())


def hold_for(response: HttpResponseBase, *, is_short: bool = False) -> None:
    """Hold a permit until a streamed response has been sent or given up. Raises as `waiting`."""
    if _current.person is None:
        return
    closers: list[Callable[[], None]] = response._resource_closers  # type: ignore[attr-defined]  # not in stubs
    try:
        release = _limiter.acquire(_current.person(), is_short=is_short)
    except DomainError:
        for close in closers:
            close()
        raise
    closers.append(release)
    # A response that a middleware replaces is never closed.
    weakref.finalize(response, release)


def _release() -> None:
    release, _current.release = _current.release, None
    if release is not None:
        release()
