"""Limits on requests that wait: how many threads of this web process they may hold, in all and per person.

A request that waits for a preview, a prediction, the bucket or a mail server holds a thread and does nothing.
Without a limit, a few clients hold all threads, and nobody gets a page. What is waited for makes no
difference: all waits of a process share one limit.

Only requests are limited. Workers and commands have no request, and wait as long as they like.
"""

from __future__ import annotations

import ipaddress
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext as _

from ipau.common.errors import RateLimited, Unavailable

# Seconds after which a refused client may try again: most waits are shorter.
RETRY_AFTER = 2
# Whoever chooses addresses in a network of this size has all of them.
_IPV6_PREFIX = 64


class _Current(threading.local):
    """The request that this thread works on, and whether it has a permit to wait."""

    request: HttpRequest | None = None
    release: Callable[[], None] | None = None


class Limiter:
    """Counts who waits in this process. `total` and `per_person` are the most that may wait at once."""

    def __init__(self, total: int, per_person: int):
        self.total, self.per_person = total, per_person
        self._lock = threading.Lock()
        self._people: Counter[str] = Counter()

    def acquire(self, person: str, most: int) -> Callable[[], None]:
        """Count one more wait of a person, who may have `most`; return what ends it.

        Raises:
            RateLimited: the person has too many.
            Unavailable: the process has too many.
        """
        with self._lock:
            if self._people[person] >= most:
                text = _("You have several requests under way that wait. Try again when one has ended.")
                raise RateLimited(text, retry_after=RETRY_AFTER)
            if self._people.total() >= self.total:
                text = _("Many requests are waiting just now. Try again in a moment.")
                raise Unavailable(text, code="busy", retry_after=RETRY_AFTER)
            self._people[person] += 1
        return _once(lambda: self._release(person))

    def _release(self, person: str) -> None:
        with self._lock:
            self._people[person] -= 1
            if not self._people[person]:
                del self._people[person]

    def waiting(self) -> int:
        """Return how many wait now."""
        with self._lock:
            return self._people.total()


def _once(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls this the first time only, whichever thread comes first."""
    lock = threading.Lock()
    return lambda: call() if lock.acquire(blocking=False) else None


_current = _Current()
_limiter = Limiter(settings.WEB_WAITERS, settings.WEB_WAITERS_PER_PERSON)


class ConcurrencyMiddleware:
    """Remembers which request a thread works on, so that its waits are limited wherever they begin."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        _current.request = request
        try:
            return self.get_response(request)
        finally:
            _current.request = None
            _release()


def person() -> str:
    """Return who sent the request that this thread works on; "" outside of one.

    That is the user, or where nobody is signed in the client's address; of IPv6 its network, because a client
    may use any address in there.
    """
    request = _current.request
    if request is None:
        return ""
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return f"user:{user.pk}"
    return f"address:{client_network(request)}"


def client_network(request: HttpRequest) -> str:
    """Return the address of a client, or of IPv6 the network; "unknown" where no proxy tells a usable one."""
    try:
        address = ipaddress.ip_address(get_adapter(request).get_client_ip(request).partition("%")[0])
    except (PermissionDenied, ValueError):
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, _IPV6_PREFIX), strict=False).network_address)


@contextmanager
def waiting(*, shared: bool = False) -> Iterator[None]:
    """Wait in this block, which holds a permit of the process. Inside another such block it needs none.

    Args:
        shared: a person may hold all permits but one. For waits that are short, so that one person may well
            have several, and that become long for everybody at once: when the bucket does not answer.

    Raises:
        RateLimited: this person waits for too much already.
        Unavailable: too many requests wait.
    """
    if _current.request is None or _current.release is not None:
        yield
        return
    reserve(shared=shared)
    try:
        yield
    finally:
        _release()


def reserve(*, shared: bool = False) -> None:
    """Take a permit that this request holds until it has been answered. Raises as `waiting`.

    For a request that would leave something half done if it had to wait later and was refused then.
    """
    if _current.request is None or _current.release is not None:
        return
    most = max(1, _limiter.total - 1) if shared else _limiter.per_person
    _current.release = _limiter.acquire(person(), most)


def keep_for(response: HttpResponseBase) -> None:
    """Hold a permit until a streamed response has been sent or given up. Raises as `waiting`."""
    if _current.request is None:
        return
    release = _limiter.acquire(person(), max(1, _limiter.total - 1))
    closers: list[Callable[[], None]] = response._resource_closers  # type: ignore[attr-defined]  # not in stubs
    closers.append(release)
    # A response that a middleware replaces is never closed.
    weakref.finalize(response, release)


def _release() -> None:
    release, _current.release = _current.release, None
    if release is not None:
        release()
