"""Tests of the web server: HTTP works as in gunicorn, despite our main loop."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, transaction

from tests.conftest import database_url
from tests.ipau.web_server import WebServer, is_closed, latency, read_response

pytestmark = pytest.mark.django_db(transaction=True)
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
FORM = (
    b"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
)


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    env = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "IPAU_WEB_WORKERS": "1",
        "IPAU_WEB_THREADS": "2",
        "IPAU_WEB_CONNECTIONS": "30",
        "IPAU_WEB_CONNECTIONS_PER_ADDRESS": "25",
    }
    started = WebServer(env, tmp_path_factory.mktemp("web") / "log")
    try:
        yield started
    finally:
        started.stop()
        log = started.log.read_text()
        assert "Traceback" not in log
        assert log.count("Booting worker") == 1


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def test_a_connection_is_used_again(server: WebServer) -> None:
    with server.connect() as client:
        for _ in range(20):
            client.sendall(GET)
            head, body = read_response(client)
            assert (status_of(head), body) == (200, b"ok\n")
        assert b"\r\nConnection: keep-alive\r\n" in head


def test_requests_that_come_at_once_are_answered_in_order(server: WebServer) -> None:
    other = b"GET /static/none HTTP/1.1\r\nHost: localhost\r\n\r\n"
    form = FORM + b"Content-Length: 3\r\n\r\na=b"
    with server.connect(GET + other + form + LAST) as client:
        # All of it has come; the client closes its side.
        client.shutdown(socket.SHUT_WR)
        statuses = [status_of(read_response(client)[0]) for _ in range(4)]
    assert statuses == [200, 404, 403, 200]


def test_a_request_may_come_byte_by_byte(server: WebServer) -> None:
    with server.connect() as client:
        for number in range(len(LAST)):
            client.sendall(LAST[number : number + 1])
            time.sleep(0.002)
        assert status_of(read_response(client)[0]) == 200


def test_old_clients_and_heads_are_answered(server: WebServer) -> None:
    old = server.ask(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert old.startswith(b"HTTP/1.0 200")
    assert old.endswith(b"ok\n")
    head = server.ask(LAST.replace(b"GET", b"HEAD"))
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Length: 3" in head
    empty_line = server.ask(b"\r\n" + LAST)
    assert status_of(empty_line) == 200


@pytest.mark.parametrize("length", [9, 900_000])
def test_who_expects_to_go_on_is_told_once(server: WebServer, length: int) -> None:
    head = FORM + f"Expect: 100-continue\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n".encode()
    with server.connect(head) as client:
        told = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.recv(len(told)) == told
        client.sendall(b"login=abc".ljust(length, b"x"))
        # 403: the form carries no token.
        assert status_of(read_response(client)[0]) == 403


REFUSED = {
    "two lengths": (b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    "length and chunks": (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks twice": (b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "unknown coding": (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "coding without chunks": (b"Transfer-Encoding: gzip\r\n\r\nabc", 400),
    "signed length": (b"Content-Length: +3\r\n\r\nabc", 400),
    "length in hex": (b"Content-Length: 0x3\r\n\r\nabc", 400),
    "endless length": (b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc", 400),
    "space before the colon": (b"Content-Length : 3\r\n\r\nabc", 400),
    "folded line": (b"X-A: b\r\n Content-Length: 3\r\n\r\nabc", 400),
    "bare newlines": (b"Content-Length: 3\n\nabc", 400),
    "bare newline in the middle": (b"X-A: b\nX-C: d\r\n\r\n", 400),
    "two hosts": (b"Host: example.org\r\n\r\n", 400),
    "NUL": (b"X-A: b\0c\r\n\r\n", 400),
    "unknown expectation": (b"Expect: the-best\r\n\r\n", 417),
    "too many lines": (b"X-A: b\r\n" * 200 + b"\r\n", 431),
    "too long a line": (b"X-A: " + b"b" * 10_000 + b"\r\n\r\n", 431),
    "too large a head": (b"X-A: " + b"b" * 80_000, 431),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_two_servers_might_read_differently_is_refused(server: WebServer, case: str) -> None:
    rest, status = REFUSED[case]
    began = time.monotonic()
    # What follows must never be taken for a request.
    answer = server.ask(b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + rest + GET)
    assert status_of(answer) == status
    assert answer.count(b"HTTP/1.1 ") == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "line", [b"GET /a b HTTP/1.1", b"GET", b"get / HTTP/1.1", b"GET / HTTP/2.0", b"\r\n\r\n"]
)
def test_a_bad_request_line_is_refused(server: WebServer, line: bytes) -> None:
    assert status_of(server.ask(line + b"\r\nHost: localhost\r\n\r\n")) == 400


def test_an_unread_body_ends_the_connection(server: WebServer) -> None:
    head = b"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n"
    with server.connect(head + b"x" * 400_000) as client:
        answer, _ = read_response(client)
        assert b"\r\nConnection: close\r\n" in answer
        # Its rest is read and dropped, so that the answer gets through.
        client.sendall(b"x" * 400_000)
        assert is_closed(client, 8)


def test_a_small_unread_body_does_not(server: WebServer) -> None:
    ask = b"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nGET "
    with server.connect(ask + GET) as client:
        assert b"\r\nConnection: keep-alive\r\n" in read_response(client)[0]
        assert status_of(read_response(client)[0]) == 200


def test_too_many_connections_cost_the_oldest_idle_one(server: WebServer) -> None:
    with server.connect(GET) as used:
        read_response(used)
        idle = [server.connect() for _ in range(40)]
        assert server.get("/healthz")[0] == 200
        open_ones = [client for client in idle if not is_closed(client, 0.02)]
        # 25 of one address; those that came last stay.
        assert 0 < len(open_ones) <= 25
        assert open_ones[-1] is idle[-1]
        for client in idle:
            client.close()


def test_health_and_style_sheets_never_wait_for_busy_threads(server: WebServer) -> None:
    ask = b"GET /s/none/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE drive_share IN ACCESS EXCLUSIVE MODE")
            # Two threads, and a queue behind them.
            waiting = [stack.enter_context(server.connect(ask)) for _ in range(6)]
            for path in ("/healthz", "/static/logo.svg", "/readyz") * 10:
                began = time.monotonic()
                assert server.get(path)[0] == 200
                assert time.monotonic() - began < 0.5
            assert not select.select(waiting, [], [], 0)[0]
        assert [status_of(read_response(client)[0]) for client in waiting] == [404] * 6


def test_it_outlives_a_lack_of_files(
    django_db_setup: None, process_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = WebServer({**process_env, "IPAU_WEB_WORKERS": "1"}, tmp_path_factory.mktemp("web") / "log")
    main = server.process.pid
    worker = int(Path(f"/proc/{main}/task/{main}/children").read_text().split()[0])
    files = len(list(Path(f"/proc/{worker}/fd").iterdir()))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (files + 20, files + 20))
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(90):
                stack.enter_context(server.connect(b"GET / HTT"))
            for _ in range(5):
                assert server.get("/healthz")[0] == 200
    finally:
        server.stop()
    # It was the same process all the time.
    assert server.log.read_text().count("Booting worker") == 1


def test_processes_restart_one_after_the_other(
    django_db_setup: None, process_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = tmp_path_factory.mktemp("web") / "log"
    options = ("--max-requests", "40", "--max-requests-jitter", "0")
    server = WebServer({**process_env, "IPAU_WEB_WORKERS": "2"}, log, *options)
    try:
        with contextlib.ExitStack() as stack:
            # Each process has some of these, which keep it from ending at once.
            for _ in range(12):
                stack.enter_context(server.connect(FORM + b"Content-Length: 30000\r\n\r\na"))
            assert latency(lambda: server.get("/healthz"), seconds=5) < 0.5
        ending: set[str] = set()
        ended = 0
        for line in log.read_text().splitlines():
            pid = line.split("[")[2].split("]")[0] if line.count("[") > 2 else ""
            if "Autorestarting" in line:
                assert not ending
                ending.add(pid)
            elif "Worker exiting" in line:
                ending.discard(pid)
                ended += 1
        assert ended >= 1
    finally:
        server.stop()


def test_it_ends_soon_although_clients_dawdle(
    django_db_setup: None, process_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = WebServer({**process_env, "IPAU_WEB_WORKERS": "1"}, tmp_path_factory.mktemp("web") / "log")
    with contextlib.ExitStack() as stack:
        for part in (b"", b"GET / HTT", FORM + b"Content-Length: 30\r\n\r\na") * 5:
            stack.enter_context(server.connect(part))
        waiting = stack.enter_context(server.connect(GET))
        read_response(waiting)
        assert server.stop() < 6


TARGETS = (b"/v1/files", b"/v1/openapi.json?x=1", b"/V1/files", b"//v1/x", b"http://localhost/v1/files")


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("target", TARGETS[:1])
def test_programs_are_told_a_problem(server: WebServer, case: str, target: bytes) -> None:
    rest, status = REFUSED[case]
    answer = server.ask(b"POST " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + rest)
    told = problem_of(answer)
    assert (status_of(answer), told["status"], told["instance"]) == (status, status, "/v1/files")


@pytest.mark.parametrize("target", TARGETS)
def test_programs_are_told_a_problem_however_they_write_the_address(server: WebServer, target: bytes) -> None:
    answer = server.ask(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\n")
    assert problem_of(answer)["status"] == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /v1/" + b"x" * 5000 + b" HTTP/1.1", 414),
        (b"GET /v1/a b HTTP/1.1", 400),
        (b"GET /v1/files HTTP/2.0", 400),
        (b"GET /v1/files", 400),
        (b"g@t /v1/files HTTP/1.1", 400),
        (b"GET /v1/\xff\x00 HTTP/1.1", 400),
    ],
    ids=range(6),
)
def test_programs_are_told_a_problem_of_the_request_line(server: WebServer, line: bytes, status: int) -> None:
    answer = server.ask(line + b"\r\nHost: localhost\r\n\r\n")
    assert (status_of(answer), problem_of(answer)["status"]) == (status, status)


def test_programs_are_told_a_problem_before_all_of_a_head_has_come(server: WebServer) -> None:
    answer = server.ask(b"GET /v1/files HTTP/1.1\r\nX-A: " + b"b" * 80_000)
    assert (status_of(answer), problem_of(answer)["status"]) == (431, 431)


def test_people_are_told_in_words(server: WebServer) -> None:
    answer = server.ask(b"GET /drive/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: +3\r\n\r\n")
    assert status_of(answer) == 400
    assert b"problem+json" not in answer


def problem_of(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/problem+json" in head, answer[:500]
    assert f"Content-Length: {len(body)}".encode() in head
    found: dict[str, object] = json.loads(body)
    assert {"type", "title", "status", "detail", "message", "instance"} <= set(found)
    assert found["detail"]
    return found
