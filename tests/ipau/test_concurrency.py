"""Tests of concurrency limits: how many requests of a web process may wait, in total and per client."""

import gc
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory

from ipau.common.errors import DomainError, RateLimited, Unavailable
from ipau.common.http import clients, concurrency
from ipau.common.http.clients import ConcurrencyMiddleware
from ipau.common.http.concurrency import Limiter

SECONDS = 10


@pytest.fixture(autouse=True)
def limiter(monkeypatch: pytest.MonkeyPatch) -> Limiter:
    """Three may wait, two of one person."""
    made = Limiter(total=3, per_person=2)
    monkeypatch.setattr(concurrency, "_limiter", made)
    return made


def request_of(user: str = "", address: str = "192.0.2.1") -> HttpRequest:
    request = RequestFactory().get("/", REMOTE_ADDR=address)
    request.user = SimpleNamespace(is_authenticated=bool(user), pk=user)  # type: ignore[assignment]
    return request


def during(request: HttpRequest, call: Callable[[], Any]) -> Any:
    """Call something within a request, and return what it returns."""
    found: list[Any] = []

    def view(_request: HttpRequest) -> HttpResponse:
        found.append(call())
        return HttpResponse()

    ConcurrencyMiddleware(view)(request)
    return found[0]


class Waiters:
    """Requests that wait, each in a thread as in a web process, until they may end."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, request: HttpRequest) -> None:
        """Return when it waits; raise what refuses it."""
        waits = threading.Event()
        refused: list[DomainError] = []

        def wait() -> None:
            try:
                with concurrency.waiting():
                    waits.set()
                    self._end.wait(SECONDS)
            except DomainError as error:
                refused.append(error)
                waits.set()

        thread = threading.Thread(target=during, args=(request, wait))
        thread.start()
        self._threads.append(thread)
        assert waits.wait(SECONDS)
        if refused:
            raise refused[0]

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(SECONDS)


@pytest.fixture
def waiters() -> Any:
    made = Waiters()
    yield made
    made.end()


def test_one_person_has_a_limit_of_their_own(waiters: Waiters) -> None:
    for _ in range(2):
        waiters.add(request_of("ann"))
    with pytest.raises(RateLimited) as refused:
        waiters.add(request_of("ann"))
    assert refused.value.headers == {"Retry-After": "2"}
    waiters.add(request_of("bob"))


def test_all_together_have_a_limit(waiters: Waiters, limiter: Limiter) -> None:
    for name in ("ann", "bob", "cid"):
        waiters.add(request_of(name))
    with pytest.raises(Unavailable) as refused:
        waiters.add(request_of("dan"))
    assert (refused.value.code, refused.value.headers) == ("busy", {"Retry-After": "2"})
    waiters.end()
    assert limiter.waiting() == 0
    waiters.add(request_of("dan"))


def test_several_people_who_take_all_they_can_leave_some_to_others() -> None:
    limiter = Limiter(total=8, per_person=4)

    def take_all(person: str) -> int:
        taken = 0
        while True:
            try:
                limiter.acquire(person)
            except DomainError:
                return taken
            taken += 1

    assert [take_all(name) for name in ("ann", "bob", "cid", "dan")] == [4, 2, 1, 1]


def test_visitors_are_known_by_their_address_or_network(waiters: Waiters) -> None:
    for end in ("1", "ffff:2"):
        waiters.add(request_of(address=f"2001:db8::{end}"))
    with pytest.raises(RateLimited):
        waiters.add(request_of(address="2001:db8::3"))
    waiters.add(request_of(address="2001:db8:0:1::1"))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::"),
        ("fe80::1%eth0", "fe80::"),
        ("nonsense", "unknown"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert clients.client_network(request_of(address=address)) == network


def test_who_has_a_permit_needs_no_other(limiter: Limiter) -> None:
    def nested() -> int:
        with concurrency.waiting():
            for _ in range(5):
                with concurrency.waiting():
                    pass
            return limiter.waiting()

    assert during(request_of("ann"), nested) == 1
    assert limiter.waiting() == 0


def test_outside_a_request_nothing_is_limited(limiter: Limiter) -> None:
    with concurrency.waiting():
        assert limiter.waiting() == 0
    concurrency.reserve()
    assert (concurrency.person(), limiter.waiting()) == ("", 0)


def short() -> int:
    with concurrency.waiting(is_short=True):
        return concurrency._limiter.waiting()


def test_short_waits_of_one_person_leave_a_permit_to_others(waiters: Waiters) -> None:
    for _ in range(2):
        waiters.add(request_of("ann"))
    begun = time.monotonic()
    with pytest.raises(RateLimited):
        during(request_of("ann"), short)
    assert time.monotonic() - begun < 0.5
    assert during(request_of("bob"), short) == 3


def test_short_waits_stand_in_line_while_others_end(limiter: Limiter) -> None:
    """As fifty thumbnails of one page do, which each wait for the bucket a moment."""
    refused: list[DomainError] = []

    def fetch() -> None:
        try:
            with concurrency.waiting(is_short=True):
                time.sleep(0.01)
        except DomainError as error:
            refused.append(error)

    limiter.acquire("another account")()
    threads = [threading.Thread(target=during, args=(request_of("ann"), fetch)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert (refused, limiter.waiting()) == ([], 0)


def test_when_nothing_ends_the_line_is_refused(waiters: Waiters, limiter: Limiter) -> None:
    limiter.acquire("another account")()
    for name in ("ann", "bob", "cid"):
        waiters.add(request_of(name))
    limiter.acquire("eve", is_short=True)
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        during(request_of("dan"), short)
    assert time.monotonic() - begun < concurrency.MOVING_SECONDS + 0.5
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        during(request_of("dan"), short)
    assert time.monotonic() - begun < 0.5


def test_what_was_reserved_ends_with_the_request(limiter: Limiter) -> None:
    def reserve() -> int:
        concurrency.reserve()
        with concurrency.waiting():
            pass
        return limiter.waiting()

    assert during(request_of("ann"), reserve) == 1
    assert limiter.waiting() == 0


def test_a_request_that_fails_holds_nothing(limiter: Limiter) -> None:
    def fail(_request: HttpRequest) -> HttpResponse:
        concurrency.reserve()
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - raised just above
        ConcurrencyMiddleware(fail)(request_of("ann"))
    assert (limiter.waiting(), concurrency.person()) == (0, "")


@pytest.mark.django_db
def test_a_stream_holds_a_permit_until_it_is_closed_or_forgotten(limiter: Limiter) -> None:
    def stream() -> StreamingHttpResponse:
        response = StreamingHttpResponse(iter([b"a", b"b"]))
        concurrency.hold_for(response)
        return response

    closed, forgotten = (during(request_of("ann"), stream) for _ in range(2))
    assert limiter.waiting() == 2
    with pytest.raises(RateLimited):
        during(request_of("ann"), stream)
    closed.close()
    closed.close()
    assert limiter.waiting() == 1
    del forgotten
    gc.collect()
    assert limiter.waiting() == 0


@pytest.mark.django_db
def test_a_page_says_when_to_try_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "_limiter", Limiter(total=0, per_person=1))
    answer = client.post("/apps/ipau/blackwhite/preview/", {"sample": "1"})
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert answer.json()["detail"].startswith("Many requests are waiting")
