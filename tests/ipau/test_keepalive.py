"""Tests of keep-alive after early refusals, with a real gunicorn."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from accounts.models import User
from accounts.services import create_api_key
from drive.files.paths import clean_path
from drive.uploads.resumable import begin_resumable
from tests.conftest import database_url
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
MB, GB = 2**20, 2**30
START_SECONDS = 60
BYTES = "application/offset+octet-stream"
FORM = "multipart/form-data; boundary=x"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Talk:
    """One connection, byte by byte."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.reader = self.socket.makefile("rb")

    def send(self, method: str, path: str, body: bytes = b"", **headers: object) -> Answer:
        """Send a request, whose body may be shorter than it says, and return the answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return self.read(method)

    def read(self, method: str) -> Answer:
        status = int(self.reader.readline().split()[1])
        headers = {}
        while line := self.reader.readline().strip().decode():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = b"" if method == "HEAD" else self.reader.read(int(headers.get("content-length", 0)))
        return Answer(status, headers, body)

    def ends(self) -> bool:
        """Tell whether the server closes the connection."""
        try:
            return self.reader.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


@pytest.fixture(scope="module")
def port(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    env = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "IPAU_BIND": f"127.0.0.1:{found}",
        "IPAU_WEB_WORKERS": "1",
    }
    log = tmp_path_factory.mktemp("gunicorn") / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "python:ipau.gunicorn", "ipau.wsgi"],
            cwd=ROOT, env=env, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        ends = time.monotonic() + START_SECONDS
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", found)) == 0:
                    break
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.1)
        yield found
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def talk(port: int) -> Iterator[Talk]:
    made = Talk(port)
    yield made
    made.close()


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


def bearer(user: User, *scopes: str) -> str:
    return f"Bearer {create_api_key(user=user, name='test', scopes=scopes or None).secret}"


REFUSALS = {
    "tus creation, too large": (413, "POST", "/v1/uploads", {"Upload_Length": 10**13, "Content_Type": BYTES}),
    "tus creation, no room": (413, "POST", "/v1/uploads", {"Upload_Length": 3 * GB, "Content_Type": BYTES}),
    "tus creation, no version": (412, "POST", "/v1/uploads", {"Tus_Resumable": "0.1", "Content_Type": BYTES}),
    "tus bytes, wrong type": (415, "PATCH", "upload", {"Upload_Offset": 0, "Content_Type": "text/plain"}),
    "tus bytes, wrong offset": (409, "PATCH", "upload", {"Upload_Offset": 7, "Content_Type": BYTES}),
    "tus bytes, more than announced": (413, "PATCH", "upload", {"Upload_Offset": 0, "Content_Type": BYTES}),
    "tus bytes, no such upload": (
        404, "PATCH", "/v1/uploads/01890000-0000-7000-8000-000000000000",
        {"Upload_Offset": 0, "Content_Type": BYTES},
    ),
    "no key": (401, "POST", "/v1/uploads", {"Upload_Length": 9, "Content_Type": BYTES, "Authorization": "x"}),
    "file without a key": (401, "POST", "/v1/files", {"Content_Type": "image/png", "Authorization": "x y"}),
    "file, too large": (413, "POST", "/v1/files", {"Content_Type": FORM}),
    "JSON, too large": (413, "POST", "/v1/folders", {"Content_Type": "application/json"}),
    "no such address": (404, "GET", "/v1/nothing", {"Content_Type": "application/json"}),
    "no such method": (405, "PUT", "/v1/files", {"Content_Type": "image/png"}),
    "no such type": (415, "POST", "/v1/folders", {"Content_Type": "text/x-nothing"}),
    "page, form too large": (413, "POST", "/accounts/login/", {"Content_Type": FORM}),
    "page, to be signed in for": (302, "POST", "/drive/upload/", {"Content_Type": FORM}),
    "page, not found": (404, "GET", "/s/nothing/", {"Content_Type": "application/x-nothing"}),
    "page, no token": (403, "POST", "/drive/share/", {"Content_Type": "text/plain"}),
    "page, body of a GET": (200, "GET", "/healthz", {"Content_Type": "text/plain"}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_an_early_refusal_says_that_the_connection_closes(talk: Talk, user: User, name: str) -> None:
    status, method, path, headers = REFUSALS[name]
    if path == "upload":
        path = (
            f"/v1/uploads/{begin_resumable(owner=user, folder=None, place=clean_path('a.jpg'), length=5).pk}"
        )
    if name == "tus creation, no room":
        user.quota_bytes = 2000 * MB
        user.save()
    sent = {"Authorization": bearer(user), "Tus_Resumable": "1.0.0", **headers}
    answer = talk.send(method, path, b"x" * 1000, Content_Length=300 * MB, **sent)
    assert (answer.status, answer.headers["connection"]) == (status, "close"), answer.body
    if status >= 400:
        assert answer.body
    assert talk.ends()


def test_a_key_that_may_not_write(talk: Talk, user: User) -> None:
    answer = talk.send(
        "POST", "/v1/uploads", b"x", Authorization=bearer(user, "read"), Tus_Resumable="1.0.0",
        Content_Type=BYTES, Content_Length=MB,
    )  # fmt: skip
    assert (answer.status, answer.headers["connection"]) == (403, "close")


def test_a_body_in_chunks(talk: Talk, user: User) -> None:
    answer = talk.send(
        "POST", "/v1/files", b"5\r\nhello\r\n", Authorization=bearer(user), Content_Type=FORM,
        Transfer_Encoding="chunked",
    )  # fmt: skip
    assert (answer.status, answer.headers["connection"]) == (411, "close")


def test_a_sender_who_does_not_stop_still_gets_the_answer(talk: Talk, user: User) -> None:
    head = (
        f"POST /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {bearer(user)}\r\n"
        f"Tus-Resumable: 1.0.0\r\nUpload-Length: {10**13}\r\nContent-Type: {BYTES}\r\n"
        "Content-Length: 30000\r\n\r\n"
    )
    talk.socket.sendall(head.encode())
    # As a client that looks for the answer only after its body.
    for _ in range(30):
        talk.socket.sendall(b"x" * 1000)
        time.sleep(0.005)
    # Small enough to be collected whole, so nothing is left on the connection.
    answer = talk.read("POST")
    assert (answer.status, answer.headers["connection"]) == (413, "keep-alive")


def test_a_small_rest_costs_no_connection(talk: Talk, user: User) -> None:
    for number in range(3):
        sent = {"Tus_Resumable": "1.0.0", "Upload_Length": 10**13, "Content_Type": BYTES}
        answer = talk.send(
            "POST", "/v1/uploads", b"x" * 500, Content_Length=500, Authorization="Bearer no", **sent
        )
        assert (answer.status, answer.headers["connection"]) == (401, "keep-alive"), number


def test_what_was_read_whole_costs_no_connection(talk: Talk, user: User) -> None:
    body = b'{"name": "' + b"x" * 60_000 + b'"}'
    for _ in range(2):
        sent = {
            "Authorization": bearer(user),
            "Content_Type": "application/json",
            "Content_Length": len(body),
        }
        answer = talk.send("POST", "/v1/folders", body, **sent)
        assert (answer.status, answer.headers["connection"]) == (422, "keep-alive")
    whole = talk.send("GET", "/healthz")
    assert (whole.status, whole.headers["connection"]) == (200, "keep-alive")
