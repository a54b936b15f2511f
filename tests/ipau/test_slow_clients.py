"""Tests of slow clients: they hold no thread, do not delay others, and are disconnected in time."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from accounts.models import User
from accounts.services import create_api_key
from drive.models import File, FileState, Folder, Upload
from drive.shares import services
from tests.conftest import database_url
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.ipau.web_server import Trickle, WebServer, latency, read_all, read_response, read_to_end

pytestmark = pytest.mark.django_db(transaction=True)
SLOW_SECONDS = 1.0
CLIENTS = 40
# The 95th percentile of what others wait.
MOST_SECONDS = 0.5
LOOK_SECONDS = 0.8
KIB = 1024


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    env = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "IPAU_WEB_WORKERS": "1",
        "IPAU_WEB_THREADS": "4",
        "IPAU_WEB_SLOW_SECONDS": str(SLOW_SECONDS),
    }
    started = WebServer(env, tmp_path_factory.mktemp("web") / "log")
    try:
        # What is loaded once is loaded.
        started.get("/accounts/login/")
        yield started
    finally:
        assert started.stop() < 12
        log = started.log.read_text()
        assert "Traceback" not in log
        # It is the process that was there at the beginning.
        assert log.count("Booting worker") == 1


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


@pytest.fixture
def key(user: User) -> str:
    return create_api_key(user=user, name="test").secret


@pytest.fixture
def large_file(user: User) -> File:
    """Return a picture of more bytes than the sockets of both sides hold."""
    noise = np.random.default_rng(1).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(noise).save(out, "PNG", compress_level=0)
    folder = Folder.objects.create(owner=user, name="shared")
    file = upload(user, "noise.png", data=out.getvalue(), folder=folder)
    File.objects.filter(pk=file.pk).update(state=FileState.READY)
    return file


def check_others(server: WebServer) -> None:
    """Another client's page, style sheet and health check come at once."""

    paths = itertools.cycle(("/accounts/login/", "/healthz", "/static/logo.svg"))

    def ask() -> None:
        assert server.get(next(paths))[0] == 200

    # The requests of the others, as far as they have come whole, are answered first.
    began = time.monotonic()
    ask()
    assert time.monotonic() - began < 3
    assert latency(ask, seconds=LOOK_SECONDS) < MOST_SECONDS


def check_end(clients: list[socket.socket], seconds: float) -> set[str]:
    """All of them are cut off within so many seconds. Returns the statuses that they got."""
    ends = time.monotonic() + seconds
    answers = [read_to_end(client, max(0.1, ends - time.monotonic())) for client in clients]
    assert None not in answers
    # The last one: a client may have been told to go on before.
    heads = [(answer or b"").rpartition(b"HTTP/1.1 ")[2] for answer in answers]
    return {head[:3].decode() for head in heads}


LOGIN = b"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\n"
FORM = LOGIN + b"Content-Type: application/x-www-form-urlencoded\r\n"
# Without the cookie, the form would be refused unread.
COOKIE = b"Cookie: csrftoken=" + b"a" * 32 + b"\r\n"
MULTIPART = LOGIN + COOKIE + b"Content-Type: multipart/form-data; boundary=x\r\n"
STATIC = b"POST /static/logo.svg HTTP/1.1\r\nHost: localhost\r\n"
JSON = b"POST /v1/predictions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /accounts/login/ HTTP/1.1\r\nHost: localhost\r\n"
# What is sent first, what then again and again, and the statuses that this gets. An empty one: just closed.
SENDERS: dict[str, tuple[bytes, bytes, set[str]]] = {
    "nothing": (b"", b"", {""}),
    "part of a head": (GET + b"X-Slow: ", b"a", {"408"}),
    "lines of a head": (GET, b"X-Slow: a\r\n", {"408"}),
    "form": (FORM + b"Content-Length: 4000\r\n\r\nlogin=", b"a", {"408"}),
    # One address has one thread for these; the others come back later.
    "large form": (MULTIPART + b"Content-Length: 2000000\r\n\r\n--x\r\n", b"a", {"408", "429"}),
    "static file with a body": (STATIC + b"Content-Length: 2000000\r\n\r\n", b"a", {"405"}),
    "JSON": (JSON + b'Content-Length: 16000\r\n\r\n{"a": "', b"a", {"408"}),
    # Their end is not waited for, because nothing here takes chunks.
    "chunks": (FORM + b"Transfer-Encoding: chunked\r\n\r\n5\r\nlogin\r\n", b"1\r\na\r\n", {"403"}),
    "expecting to go on": (FORM + b"Expect: 100-continue\r\nContent-Length: 4000\r\n\r\n", b"", {"408"}),
}


@pytest.mark.parametrize("attack", SENDERS)
def test_slow_senders_are_not_noticed_and_cut_off(server: WebServer, attack: str) -> None:
    begin, piece, expected = SENDERS[attack]
    clients = [server.connect(begin) for _ in range(CLIENTS)]
    senders = Trickle(clients, piece, every=0.15) if piece else None
    try:
        check_others(server)
        # A small body may come at a quarter of the minimum rate. A closed connection lingers for its client.
        assert check_end(clients, SLOW_SECONDS + 4 + 6) == expected
    finally:
        if senders:
            senders.end()
        for client in clients:
            client.close()


def test_clients_that_never_close_do_not_hold_the_loop(server: WebServer) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    clients = [server.connect(request) for _ in range(CLIENTS)]
    check_others(server)
    for client in clients:
        client.close()


def test_clients_that_go_while_they_wait_leave_their_place(server: WebServer, user: User, key: str) -> None:
    head = MULTIPART + b"Content-Length: 2000000\r\n\r\n--x\r\n"
    for _ in range(10):
        with server.connect(head) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            time.sleep(0.02)
    time.sleep(SLOW_SECONDS)
    data = b"x" * 400_000
    path = begin_upload(server, key, 2_000_000)
    with server.connect(patch_head(path, key, len(data)) + data) as client:
        assert read_response(client)[0].startswith(b"HTTP/1.1 204")


def patch_head(path: str, key: str, length: int, *, offset: int = 0) -> bytes:
    lines = [
        f"PATCH {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {key}",
        "Tus-Resumable: 1.0.0",
        f"Upload-Offset: {offset}",
        "Content-Type: application/offset+octet-stream",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def begin_upload(server: WebServer, key: str, length: int) -> str:
    """Begin a resumable upload and return its path."""
    head = (
        f"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Tus-Resumable: 1.0.0\r\nUpload-Length: {length}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    answer = server.ask(head.encode())
    assert answer.startswith(b"HTTP/1.1 201"), answer
    location = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"location:"))
    return "/" + location.decode().split("/", 3)[3]


def test_slow_uploads_are_bounded_and_what_came_is_kept(server: WebServer, key: str) -> None:
    first = b"x" * 300_000
    clients = []
    for _ in range(CLIENTS):
        path = begin_upload(server, key, 2_000_000)
        clients.append(server.connect(patch_head(path, key, 2_000_000) + first))
    senders = Trickle(clients, b"y", every=0.15)
    try:
        check_others(server)
        answers = [read_response(client)[0] for client in clients]
        check_end(clients, 6)
    finally:
        senders.end()
    statuses = [int(answer.split()[1]) for answer in answers]
    # One address has one stream of two. What waits longer than half a second is asked to come back.
    assert set(statuses) == {204, 429}
    assert all(b"\r\nretry-after: 5" in a.lower() for a in answers if a.startswith(b"HTTP/1.1 429"))
    assert all(b"\r\nconnection: close" in answer.lower() for answer in answers)
    kept = [one.offset for one in Upload.objects.all() if one.offset]
    assert len(kept) == statuses.count(204)
    assert min(kept) >= len(first)


def test_an_upload_of_a_slow_line_comes_through(server: WebServer, key: str) -> None:
    out = BytesIO()
    noise = np.random.default_rng(2).integers(0, 256, (350, 350, 3), dtype=np.uint8)
    Image.fromarray(noise).save(out, "PNG", compress_level=0)
    data = out.getvalue()
    assert len(data) > 360_000
    path = begin_upload(server, key, len(data))
    began = time.monotonic()
    with server.connect(patch_head(path, key, len(data))) as client:
        # More than the minimum of 16 KiB/s, with pauses.
        for at in range(0, len(data), 20 * KIB):
            client.sendall(data[at : at + 20 * KIB])
            time.sleep(0.5 if at % (40 * KIB) else 0.1)
        head, _ = read_response(client)
    assert time.monotonic() - began > 5 * SLOW_SECONDS
    assert head.startswith(b"HTTP/1.1 204")
    assert File.objects.get().size == len(data)


@pytest.fixture
def readers(server: WebServer) -> Iterator[Callable[[str, str], list[socket.socket]]]:
    """Open connections that ask for something large and read nothing."""
    opened: list[socket.socket] = []

    def start(path: str, key: str) -> list[socket.socket]:
        line = f"Authorization: Bearer {key}\r\n" if key else ""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{line}\r\n".encode()
        opened.extend(server.connect(request, receive_buffer=4 * KIB) for _ in range(CLIENTS))
        return opened

    yield start
    for client in opened:
        client.close()


@pytest.mark.parametrize("route", ["a link's zip", "a link's copy", "own file", "own archive"])
def test_slow_readers_are_not_noticed_and_cut_off(
    server: WebServer,
    user: User,
    key: str,
    large_file: File,
    readers: Callable[[str, str], list[socket.socket]],
    route: str,
) -> None:
    link = services.create_share(owner=user, folder_id=large_file.folder_id)
    path = {
        "a link's zip": f"/s/{link.token}/download/",
        "a link's copy": f"/s/{link.token}/file/{large_file.pk}/content/",
        "own file": f"/v1/files/{large_file.pk}/content",
        "own archive": f"/v1/folders/{large_file.folder_id}/archive",
    }[route]
    clients = readers(path, key if route.startswith("own") else "")
    for client in clients:
        assert client.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
    check_others(server)
    time.sleep(3 * SLOW_SECONDS + 1)
    # They are given no more than what is in the sockets of both sides already.
    got = 0
    for client in clients:
        client.settimeout(10)
        got = max(got, len(read_all(client)))
    assert 0 < got < large_file.size


def test_a_slow_reader_gets_all_of_it(server: WebServer, user: User, large_file: File) -> None:
    link = services.create_share(owner=user, folder_id=large_file.folder_id)
    path = f"/s/{link.token}/file/{large_file.pk}/content/"
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    began = time.monotonic()
    with server.connect(request, receive_buffer=64 * KIB) as client:
        got = 0
        while piece := client.recv(256 * KIB):
            got += len(piece)
            time.sleep(0.02)
    assert got > large_file.size
    assert time.monotonic() - began > SLOW_SECONDS
