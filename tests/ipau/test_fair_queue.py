"""Tests of the fair queue: one client never uses all threads of a web process."""

from __future__ import annotations

import time
from functools import partial

from ipau.web.fair_queue import FairQueue
from ipau.web.request_head import read_head


def _filled(threads: int, most_each: int, asked: list[tuple[str, int]]) -> tuple[FairQueue, list[str]]:
    queue = FairQueue(threads, most_each)
    started: list[str] = []
    for client, number in asked:
        for n in range(number):
            queue.add(f"{client}{n}", client, partial(started.append, f"{client}{n}"))
    return queue, started


def test_one_client_has_a_few_threads_and_others_start_at_once() -> None:
    _, started = _filled(8, 3, [("a", 20), ("b", 1), ("c", 1)])
    assert started == ["a0", "a1", "a2", "b0", "c0"]


def test_what_ends_lets_the_next_of_its_client_start() -> None:
    queue, started = _filled(8, 2, [("a", 5)])
    queue.end("a1")
    queue.end("a0")
    assert started == ["a0", "a1", "a2", "a3"]


def test_free_threads_go_to_clients_in_turn() -> None:
    queue, started = _filled(2, 2, [("a", 10), ("b", 3), ("c", 2)])
    for key in ("a0", "a1", "a2", "b0", "c0", "a3"):
        queue.end(key)
    assert started == ["a0", "a1", "a2", "b0", "c0", "a3", "b1", "c1"]


def test_a_client_that_waits_keeps_its_order() -> None:
    queue, started = _filled(1, 1, [("a", 1), ("b", 1), ("a", 0)])
    queue.add("a9", "a", partial(started.append, "a9"))
    queue.end("a0")
    queue.end("b0")
    assert started == ["a0", "b0", "a9"]


def test_requests_that_were_not_started_here_end_without_effect() -> None:
    queue, started = _filled(1, 1, [("a", 2)])
    queue.end("unknown")
    queue.end("a1")
    assert started == ["a0"]
    queue.end("a0")
    queue.end("a0")
    assert started == ["a0", "a1"]


def test_all_threads_are_free_again_in_the_end() -> None:
    queue, started = _filled(4, 2, [("a", 9), ("b", 9), ("c", 9)])
    ended: set[str] = set()
    while running := [key for key in started if key not in ended]:
        assert len(running) <= 4
        assert max(sum(key.startswith(client) for key in running) for client in "abc") <= 2
        queue.end(running[0])
        ended.add(running[0])
    assert len(started) == 27


def test_the_credential_of_a_head() -> None:
    def credential(*fields: str) -> bytes:
        lines = "".join(f"{field}\r\n" for field in fields)
        head = read_head(bytearray(f"GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()))
        assert head is not None
        return head.credential

    assert credential() == b""
    assert credential("Authorization: Bearer k1") == b"Bearer k1"
    assert credential("Cookie: csrftoken=t; sessionid=s1; a=b") == b"s1"
    assert credential("Cookie: xsessionid=s1") == b""
    assert credential("Authorization: Bearer k1", "Cookie: sessionid=s1") == b"Bearer k1"


def test_a_removed_request_never_starts() -> None:
    queue, started = _filled(1, 1, [("a", 3), ("b", 1)])
    queue.remove("a1")
    queue.remove("b0")
    queue.remove("unknown")
    for request in ("a0", "a2"):
        queue.end(request)
    assert started == ["a0", "a2"]


def test_a_client_is_stuck_if_none_of_its_requests_starts() -> None:
    queue, _ = _filled(2, 1, [("a", 3), ("b", 1)])
    assert not queue.is_stuck("a1", 60)
    assert queue.is_stuck("a1", 0)
    assert not queue.is_stuck("a0", 0)
    assert not queue.is_stuck("unknown", 0)
    time.sleep(0.05)
    queue.end("a0")
    assert not queue.is_stuck("a2", 0.04)


def test_nothing_is_remembered_of_clients_that_are_done() -> None:
    queue, started = _filled(2, 1, [("a", 2), ("b", 1), ("c", 1)])
    queue.remove("c0")
    for request in ("a0", "b0", "a1"):
        queue.end(request)
    assert started == ["a0", "b0", "a1"]
    assert (queue._clients, queue._client_of) == ({}, {})


def test_thousands_of_waiting_requests_are_handled_quickly() -> None:
    queue, started = _filled(16, 6, [("a", 20_000)])
    begun = time.monotonic()
    for number in range(6, 20_000):
        assert queue.is_stuck(f"a{number}", 0)
        queue.remove(f"a{number}")
    assert time.monotonic() - begun < 2
    assert len(started) == 6
