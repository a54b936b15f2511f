"""Unit tests of the web server: request heads, client keys, streams, time budgets."""

from __future__ import annotations

import os
import socket
import time
from types import SimpleNamespace

import pytest
from django.test import override_settings
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import SocketUnreader
from hypothesis import given
from hypothesis import strategies as st

from ipau.web.client_socket import ClientSocket, SlowClientError, WaitBudget
from ipau.web.limits import client_address, client_key
from ipau.web.request_body import StreamedBody
from ipau.web.request_head import RequestHead, read_head
from ipau.web.shutdown.orphans import ORPHAN_SECONDS, Orphanhood
from ipau.web.streams import Streams

HEAD = (
    b"POST /v1/uploads?a=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n"
    b"Expect: 100-Continue\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n\r\n"
)


def test_a_head_says_how_much_to_wait_for() -> None:
    head = read_head(bytearray(HEAD + b"body"))
    assert head == RequestHead(len(HEAD), b"/v1/uploads?a=b", 12, False, True, "192.0.2.1,192.0.2.2")
    assert head.path == b"/v1/uploads"


@given(st.integers(0, len(HEAD) - 1), st.integers(0, len(HEAD) - 1))
def test_part_of_a_head_is_none_however_it_comes(first: int, second: int) -> None:
    seen = 0
    for end in sorted((first, second)):
        assert read_head(bytearray(HEAD[:end]), seen) is None
        seen = end
    found = read_head(bytearray(HEAD), seen)
    assert found is not None
    assert found.size == len(HEAD)


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes) -> None:
    head = read_head(bytearray(data + b"\r\n\r\n"))
    assert head is not None
    assert 0 <= head.size <= len(data) + 4
    assert head.length >= 0


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: +5",
        b"Content-Length : 5",
        b"Content-Length: 5, 5",
        b"Content-Length: " + "٥".encode(),
        b"Content-Length: " + b"9" * 30,
    ],
)
def test_no_odd_length_is_waited_for(lines: bytes) -> None:
    head = read_head(bytearray(b"POST / HTTP/1.1\r\n" + lines + b"\r\n\r\n"))
    assert head is not None
    assert head.length == 0


def test_who_counts_as_one_client() -> None:
    assert (
        client_key("2001:db8:1:2::5") == client_key("2001:db8:1:2:ffff::9") != client_key("2001:db8:1:3::5")
    )
    assert client_key("::ffff:192.0.2.7") == client_key("192.0.2.7") != client_key("192.0.2.8")
    assert client_key("fe80::1%eth0") == client_key("fe80::2")
    assert client_key("local") == "local"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "192.0.2.1", "10.0.0.1"),
        (1, "192.0.2.9, 192.0.2.1", "192.0.2.1"),
        (1, "", "10.0.0.1"),
        (2, "192.0.2.1", "10.0.0.1"),
        (1, "no address, \xff", "10.0.0.1"),
    ],
)
def test_only_trusted_proxies_name_the_client(proxies: int, forwarded: str, address: str) -> None:
    with override_settings(ALLAUTH_TRUSTED_PROXY_COUNT=proxies):
        assert client_address("10.0.0.1", forwarded) == address


def test_one_client_cannot_have_all_streams() -> None:
    streams = Streams(3, 2)
    assert [streams.take("a") for _ in range(3)] == [True, True, False]
    assert streams.is_full_for("a")
    assert [streams.take("b") for _ in range(2)] == [True, False]
    assert not streams.is_full_for("b")
    streams.give_back("a")
    assert streams.take("b")


def test_a_budget_is_never_more_than_at_the_start() -> None:
    budget = WaitBudget(10, 100)
    budget.earn(100_000)
    budget.spend(4)
    budget.earn(100)
    assert budget.left == 7


def test_what_came_is_kept_unless_all_was_asked_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = ClientSocket(ours)
        client.allow_waiting(WaitBudget(0.1, 1_000_000))
        unreader = SocketUnreader(client)
        body = Body(LengthReader(unreader, 1000))
        stream = StreamedBody(body, unreader)
        theirs.sendall(b"a" * 300)
        assert stream.read(200) == b"a" * 200
        assert stream.read(200) == b"a" * 100
        with pytest.raises(SlowClientError):
            stream.read(200)
        assert client.is_too_slow
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = ClientSocket(ours)
        client.allow_waiting(WaitBudget(0.1, 1_000_000))
        unreader = SocketUnreader(client)
        theirs.sendall(b"a" * 300)
        with pytest.raises(SlowClientError):
            StreamedBody(Body(LengthReader(unreader, 1000)), unreader).read()


def test_writing_never_waits() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = ClientSocket(ours)
        data = bytes(range(256)) * 40_000
        client.sendall(data[:1_000_000])
        client.sendall(data[1_000_000:])
        assert not client.flush()
        got = b""
        while len(got) < len(data):
            got += theirs.recv(1 << 20)
            client.flush()
        assert got == data
        assert (client.unsent_bytes, client.sent) == (0, len(data))


def test_a_worker_outlives_its_master_only_where_another_one_takes_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, handed_down = (SimpleNamespace(address=[address]) for address in (("127.0.0.1", 8000), 3))
    for cfg in (own, handed_down):
        assert not Orphanhood(cfg, os.getppid()).is_over()
    assert Orphanhood(own, 0).is_over()
    orphan = Orphanhood(handed_down, 0)
    assert not orphan.is_over()
    now = time.monotonic()
    monkeypatch.setattr("ipau.web.shutdown.orphans.time.monotonic", lambda: now + ORPHAN_SECONDS + 1)
    assert orphan.is_over()
