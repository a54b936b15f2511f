"""Concurrency limits: how many threads of a web process waiting requests may hold, in total and per client.

A request that waits for a preview, a prediction, the bucket or a mail server holds a thread and does nothing.
Without a limit, a few clients could hold all threads. All waits of a process share one limit, whatever they
wait for.

Only requests are limited. Workers and commands have no request, and may wait without limit.
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

# Seconds after which a refused client may retry. Most waits are shorter.
RETRY_AFTER = 2
# A short wait queues for a permit for QUEUE_SECONDS, but only while some permit was freed within
# MOVING_SECONDS.
QUEUE_SECONDS = 2.0
MOVING_SECONDS = 1.0


class _Current(threading.local):
    """The client that this thread works for, and a function that releases its permit, if it has one."""

    person: Callable[[], str] | None = None
    release: Callable[[], None] | None = None


class Limiter:
    """Counts the waiting requests of this process. `total` and `per_person` are the maximum.

    A client that holds permits gets another only while more are free than it holds. So several greedy clients
    still leave permits for others.
    """

    def __init__(self, total: int, per_person: int):
        self.total, self.per_person = total, per_person
        # Many previews must not block all access to the bucket.
        self.short_total = total + total // 2
        self._freed = threading.Condition()
        self._people: Counter[str] = Counter()
        self._last_freed = float("-inf")

    def acquire(self, person: str, *, is_short: bool = False) -> Callable[[], None]:
        """Take a permit for a client; return the function that releases it.

        Args:
            is_short: half as many extra permits are available, without a limit per client. The call queues
                while other waits end. If none ends for a second, it fails at once: the service waited for is
                down.

        Raises:
            RateLimited: the client has too many waiting requests.
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
            text = _("Too many of your requests are waiting. Try again when one has finished.")
            return RateLimited(text, retry_after=RETRY_AFTER)
        if free <= 0:
            text = _("Many requests are waiting. Try again in a moment.")
            return Unavailable(text, code="busy", retry_after=RETRY_AFTER)
        return None

    def _release(self, person: str) -> None:
        with self._freed:
            self._people[person] -= 1
            # Remove clients without permits.
            self._people = +self._people
            self._last_freed = time.monotonic()
            self._freed.notify_all()

    def waiting(self) -> int:
        """Return the number of waiting requests."""
        with self._freed:
            return self._people.total()


def _once(call: Callable[[], None]) -> Callable[[], None]:
    """Return a thread-safe function that calls `call` the first time only."""
    lock = threading.Lock()
    return lambda: call() if lock.acquire(blocking=False) else None


_current = _Current()
_limiter = Limiter(settings.WEB_WAITERS, settings.WEB_WAITERS_PER_PERSON)


@contextmanager
def request_of(person: Callable[[], str]) -> Iterator[None]:
    """Run the block as a request of the client that `person` returns (a text without white space)."""
    _current.person = person
    try:
        yield
    finally:
        _current.person = None
        _release()


def person() -> str:
    """Return the client that this thread works for; "" outside of a request."""
    return _current.person() if _current.person else ""


@contextmanager
def waiting(*, is_short: bool = False) -> Iterator[None]:
    """Hold a permit while the block waits for a service. A nested block needs no second permit.

    Args:
        is_short: see `Limiter.acquire`. For waits of milliseconds, of which a page has many at once.

    Raises:
        RateLimited: the client has too many waiting requests.
        Unavailable: the process has too many.
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
    """Take a permit that this request holds until its response is complete. Raises as `waiting`.

    For a request that would leave work half done if a later wait was refused.
    """
    if _current.person is not None and _current.release is None:
        _current.release = _limiter.acquire(_current.person())


def hold_for(response: HttpResponseBase, *, is_short: bool = False) -> None:
    """Hold a permit until a streamed response is sent or aborted. Raises as `waiting`."""
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
    # A response that middleware replaces is never closed.
    weakref.finalize(response, release)


def _release() -> None:
    release, _current.release = _current.release, None
    if release is not None:
        release()
