"""Tests of deploy/nginx in a real nginx, in front of two real gunicorns."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from django.conf import settings
from django.test import Client
from PIL import Image

from accounts.models import User
from accounts.services import create_api_key
from drive.models import File, FileState, Folder, Upload
from drive.shares import services
from tests.conftest import database_url
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.ipau.web_server import Trickle, latency, read_response
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
MB = 2**20
START_SECONDS = 60
SLOW_SECONDS = 2.0
SLOW_CLIENTS = 30
MAIN = """
daemon off;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/nginx.pid;
{user}
events {{}}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/ipau.conf;
}}
"""


@dataclass
class Site:
    """nginx on `port`, the processes behind it, and what each of them has written down."""

    port: int
    nginx: int
    web: list[int]
    web_ports: list[int]
    logs: list[Path]

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # As it stands: nothing here tidies a path that leads upwards.
        connection.request(method, path, body=body, headers=named)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    def peak_bytes(self) -> int:
        """Return the most memory that each process has had, summed."""
        return sum(_peak(pid) for main in (self.nginx, *self.web) for pid in (main, *_children(main)))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _edited(ports: list[int], port: int, folder: Path) -> str:
    """Return ipau.conf with that changed which it tells people to change."""
    text = (ROOT / "deploy/nginx/ipau.conf").read_text()
    server = "server 127.0.0.1:8000 max_fails=3 fail_timeout=5s;"
    edits = {
        server: "\n".join(server.replace("8000", str(web)) for web in ports),
        "listen 80;": f"listen 127.0.0.1:{port};",
        "/srv/ipau/data": str(settings.DATA_DIR),
        "/srv/ipau/app": str(ROOT),
    }
    for old, new in edits.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < ends:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise AssertionError(f"It did not start:\n{log.read_text() if log.exists() else ''}")


@pytest.fixture(scope="module")
def site(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    started: list[subprocess.Popen[bytes]] = []
    tmp_path = tmp_path_factory.mktemp("site")
    ports, logs = [_free_port(), _free_port()], [tmp_path / "web-0.log", tmp_path / "web-1.log"]
    env = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "IPAU_ACCEL_PREFIX": "/protected/",
        "IPAU_TRUSTED_PROXIES": "1",
        "IPAU_WEB_WORKERS": "1",
        "IPAU_WEB_THREADS": "4",
        "IPAU_WEB_SLOW_SECONDS": str(SLOW_SECONDS),
    }
    try:
        for port, log in zip(ports, logs, strict=True):
            command = [sys.executable, "-m", "gunicorn", "-c", "python:ipau.gunicorn", "ipau.wsgi"]
            options = ["-b", f"127.0.0.1:{port}", "--access-logfile", str(log)]
            with (tmp_path / f"{port}.err").open("wb") as out:
                started.append(
                    subprocess.Popen([*command, *options], cwd=ROOT, env=env, stdout=out, stderr=out)
                )
        for port, process in zip(ports, started, strict=True):
            _wait(port, process, tmp_path / f"{port}.err")
        port = _free_port()
        (tmp_path / "ipau.conf").write_text(_edited(ports, port, tmp_path))
        # The folders of a test are its own; nginx's usual user could not look into them.
        user = "user root;" if os.geteuid() == 0 else ""
        (tmp_path / "nginx.conf").write_text(MAIN.format(folder=tmp_path, user=user))
        nginx = subprocess.Popen([NGINX, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)])
        started.append(nginx)
        _wait(port, nginx, tmp_path / "error.log")
        yield Site(port, nginx.pid, [one.pid for one in started[:2]], ports, logs)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


def cookie_of(client: Client) -> str:
    return f"sessionid={client.cookies['sessionid'].value}"


def test_bytes_come_from_nginx_with_all_that_keeps_them_harmless(
    site: Site, user: User, client_of: Callable[[User], Client]
) -> None:
    data = picture_bytes(width=640, height=480, seed=4)
    file = upload(user, "sea – 1.jpg", data=data)
    path, cookie = f"/drive/file/{file.pk}/content/", cookie_of(client_of(user))

    answer, body = site.ask(path, Cookie=cookie)
    assert (answer.status, body) == (200, data)
    # Sent by nginx: only there the tag comes from the file system.
    assert answer.headers["Server"] == "nginx"
    assert answer.headers["ETag"] != f'"{file.blob_id}"'
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Disposition"].startswith("inline; filename*=")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "private" in answer.headers["Cache-Control"]
    assert "X-Accel-Redirect" not in answer.headers
    assert "Content-Encoding" not in answer.headers

    part, body = site.ask(path, Cookie=cookie, Range="bytes=100-199")
    assert (part.status, body) == (206, data[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(data)}"
    assert part.headers["X-Content-Type-Options"] == "nosniff"
    last, body = site.ask(path, Cookie=cookie, Range="bytes=-10")
    assert (last.status, body) == (206, data[-10:])
    beyond, _ = site.ask(path, Cookie=cookie, Range=f"bytes={len(data)}-")
    assert beyond.status == 416
    same, body = site.ask(path, Cookie=cookie, If_None_Match=answer.headers["ETag"])
    assert (same.status, body) == (304, b"")
    saved, _ = site.ask(f"{path}?download=1", Cookie=cookie)
    assert saved.headers["Content-Disposition"].startswith("attachment;")


def test_nobody_gets_bytes_past_the_site(
    site: Site, user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    file = upload(user, data=picture_bytes(seed=5))
    (settings.DATA_DIR / "secret.txt").write_text("not for you")
    stranger = cookie_of(client_of(other_user))
    assert site.ask(f"/drive/file/{file.pk}/content/", Cookie=stranger)[0].status == 404
    assert site.ask(f"/drive/file/{file.pk}/content/")[0].status == 302
    for path in [
        f"/protected/{file.blob.path}",
        "/protected/",
        "/protected../secret.txt",
        "/protected/../secret.txt",
        "/protected/%2e%2e/secret.txt",
        "/protected/..%2fsecret.txt",
        "//protected/../secret.txt",
        "/static/../secret.txt",
        "/static../secret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/..%2fsecret.txt",
        f"/static/../blobs/{file.blob.path}",
        "/blobs/",
    ]:
        answer, body = site.ask(path, Cookie=cookie_of(client_of(user)), X_Accel_Redirect="/protected/")
        assert answer.status in (400, 404), path
        assert b"not for you" not in body


def test_requests_go_round(site: Site) -> None:
    def asked() -> list[int]:
        return [log.read_text().count("GET /healthz?round") for log in site.logs]

    for _ in range(20):
        assert site.ask("/healthz?round")[0].status == 200
    # A line is written when the answer has gone.
    ends = time.monotonic() + 10
    while sum(asked()) < 20 and time.monotonic() < ends:
        time.sleep(0.05)
    assert asked() == [10, 10]


def test_a_large_upload_flows_through(site: Site, user: User) -> None:
    size = 300 * MB
    start = picture_bytes("PNG", 300, 200, seed=6)
    key = create_api_key(user=user, name="test").secret
    tus = {"Authorization": f"Bearer {key}", "Tus_Resumable": "1.0.0"}
    begun, _ = site.ask("/v1/uploads", method="POST", body=b"", Upload_Length=str(size), **tus)
    assert begun.status == 201
    path = urlsplit(begun.headers["Location"]).path
    # Nobody's first request: what is loaded once is loaded.
    site.ask(path, method="HEAD", **tus)
    site.ask(path, method="HEAD", **tus)
    before = site.peak_bytes()

    digest = hashlib.sha256()
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=120)
    connection.putrequest("PATCH", path)
    for name, value in {
        "Authorization": tus["Authorization"],
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(size),
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    for number in range(300):
        piece = start.ljust(MB, b"\0") if number == 0 else bytes(MB)
        digest.update(piece)
        connection.send(piece)
        if number == 150:
            # It has not waited for the rest: a good part lies on the site's disk already.
            time.sleep(0.5)
            there, _ = site.ask(path, method="HEAD", **tus)
            assert int(there.headers["Upload-Offset"]) > 50 * MB
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 204
    file = File.objects.get()
    assert (file.size, file.blob_id) == (size, digest.hexdigest())
    assert site.peak_bytes() - before < 48 * MB


def test_forms_that_are_too_large_are_refused_in_words(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.putrequest("POST", "/drive/upload/")
    connection.putheader("Content-Length", str(200 * MB))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (413, b"This request is too large.\n")
    connection.close()


def test_programs_are_told_a_problem_by_nginx_too(site: Site) -> None:
    for path, told in [
        ("/v1/files", "/v1/files"),
        ('/v1/files?a=%22b"c', "/v1/files"),
        ("/V1/x.html", "/V1/x.html"),
    ]:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
        connection._validate_path = lambda _path: None  # type: ignore[attr-defined]  # sends it as it stands
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(200 * MB))
        connection.endheaders()
        answer = connection.getresponse()
        found = problem_of(answer, answer.read(), 413)
        assert found["instance"] == told
        connection.close()
    head = b"TRACE /v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n"
    long = b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n"
    for request, status in [(head, 405), (long, 431)]:
        with connect(site, request) as client:
            answer = http.client.HTTPResponse(client)
            answer.begin()
            problem_of(answer, answer.read(), status)
    answer, body = site.ask("/v1/nothing")
    # What the site says goes on as it is.
    assert "openapi.json" in str(problem_of(answer, body, 404)["detail"])


def test_a_method_may_be_named_in_a_header(site: Site, user: User) -> None:
    data = picture_bytes("PNG", 300, 200, seed=7)
    key = {
        "Authorization": f"Bearer {create_api_key(user=user, name='test').secret}",
        "Tus_Resumable": "1.0.0",
    }
    begun, _ = site.ask("/v1/uploads", method="POST", Upload_Length=str(len(data)), **key)
    path = urlsplit(begun.headers["Location"]).path
    sent = {**key, "Content_Type": "application/offset+octet-stream"}
    for start, end in ((0, 100), (100, len(data))):
        answer, _ = site.ask(
            path,
            method="POST",
            body=data[start:end],
            Upload_Offset=str(start),
            X_HTTP_Method_Override="PATCH",
            **sent,
        )
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(end))
        asked, _ = site.ask(path, method="POST", X_HTTP_Method_Override="HEAD", **key)
        assert (asked.status, asked.headers["Upload-Offset"]) == (200, str(end))
    assert File.objects.get().blob_id == hashlib.sha256(data).hexdigest()


def problem_of(answer: http.client.HTTPResponse, body: bytes, status: int) -> dict[str, object]:
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json"), body
    found: dict[str, object] = json.loads(body)
    assert {"type", "title", "status", "detail", "message", "instance"} <= set(found)
    assert found["status"] == status
    return found


def test_style_sheets_come_from_nginx_or_else_from_the_site(site: Site) -> None:
    static = settings.DATA_DIR / "static"
    static.mkdir(exist_ok=True)
    (static / "own.0123456789ab.css").write_text("body {}")
    answer, body = site.ask("/static/own.0123456789ab.css")
    assert (answer.status, body) == (200, b"body {}")
    assert "immutable" in answer.headers["Cache-Control"]
    missing, body = site.ask("/static/logo.svg")
    assert (missing.status, body) == (200, (ROOT / "ipau/static/logo.svg").read_bytes())


def connect(site: Site, data: bytes, *, source: str = "127.0.0.1", receive_buffer: int = 0) -> socket.socket:
    """Return a connection from an address of this machine, on which `data` has been sent."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(30)
    client.bind((source, 0))
    client.connect(("127.0.0.1", site.port))
    client.sendall(data)
    return client


def check_others(site: Site) -> None:
    """Pages, style sheets and health checks come at once."""
    paths = itertools.cycle(("/accounts/login/", "/healthz", "/static/logo.svg"))

    def ask() -> None:
        assert site.ask(next(paths))[0].status == 200

    # The requests of the others, as far as they have come whole, are answered first.
    began = time.monotonic()
    ask()
    assert time.monotonic() - began < 3
    assert latency(ask, seconds=1) < 0.5


def begin_upload(site: Site, key: str, size: int) -> str:
    """Begin a resumable upload and return its path."""
    tus = {"Authorization": f"Bearer {key}", "Tus_Resumable": "1.0.0"}
    begun, _ = site.ask("/v1/uploads", method="POST", body=b"", Upload_Length=str(size), **tus)
    return urlsplit(begun.headers["Location"]).path


def patch_head(path: str, key: str, size: int) -> bytes:
    lines = [
        f"PATCH {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {key}",
        "Tus-Resumable: 1.0.0",
        "Upload-Offset: 0",
        "Content-Type: application/offset+octet-stream",
        f"Content-Length: {size}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("sources", [1, 10], ids=["one address", "ten addresses"])
def test_slow_uploads_are_not_noticed_and_end(site: Site, user: User, sources: int) -> None:
    key = create_api_key(user=user, name="test").secret
    clients = []
    for number in range(SLOW_CLIENTS):
        head = patch_head(begin_upload(site, key, 2 * MB), key, 2 * MB)
        source = f"127.0.0.{2 + number % sources}"
        clients.append(connect(site, head + bytes(300_000), source=source))
    senders = Trickle(clients, b"y", every=0.2)
    try:
        check_others(site)
        # nginx refuses those above its limit for one address, the site those that no thread is free for.
        statuses = [int(read_response(client)[0].split()[1]) for client in clients]
    finally:
        senders.end()
    assert set(statuses) <= {204, 429, 503}
    assert statuses.count(429) >= (SLOW_CLIENTS - 20 if sources == 1 else 0)
    # What came is kept: this is how an upload goes on.
    assert {one.offset >= 200_000 for one in Upload.objects.exclude(offset=0)} == {True}
    assert Upload.objects.exclude(offset=0).count() >= statuses.count(204) > 0


def test_slow_readers_of_a_zip_are_not_noticed(site: Site, user: User) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(noise).save(out, "PNG", compress_level=0)
    folder = Folder.objects.create(owner=user, name="shared")
    # More than the sockets of nginx and the site hold on the way, on most machines.
    for number in range(3):
        upload(user, f"noise-{number}.png", data=out.getvalue(), folder=folder)
    File.objects.update(state=FileState.READY)
    link = services.create_share(owner=user, folder_id=folder.pk)
    request = f"GET /s/{link.token}/download/ HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        # Eight archives for each address.
        clients = [
            stack.enter_context(
                connect(site, request, source=f"127.0.0.{2 + number % 5}", receive_buffer=4096)
            )
            for number in range(SLOW_CLIENTS)
        ]
        for client in clients:
            assert client.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
        check_others(site)
        too_many = [stack.enter_context(connect(site, request, source="127.0.0.2")) for _ in range(8)]
        assert any(client.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 429" for client in too_many)
        # The site gives them up after three times its patience. A line is written when a response ends.
        ends = time.monotonic() + 3 * SLOW_SECONDS + 4
        while sum(log.read_text().count(link.token) for log in site.logs) < SLOW_CLIENTS:
            assert time.monotonic() < ends
            time.sleep(0.1)


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_slow_heads_are_not_noticed(site: Site, start: bytes) -> None:
    clients = [connect(site, start) for _ in range(90)]
    check_others(site)
    for client in clients:
        client.close()


def test_one_address_cannot_have_all_connections(site: Site) -> None:
    head = b"POST /drive/upload/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    clients = [connect(site, head, source="127.0.0.9") for _ in range(110)]
    refused = 0
    for client in clients:
        client.settimeout(0.02)
        with contextlib.suppress(TimeoutError):
            refused += client.recv(12) == b"HTTP/1.1 429"
        client.close()
    assert refused == 10
    assert site.ask("/healthz")[0].status == 200


# The last but one: it leaves the site with one machine.
def test_a_machine_that_goes_is_not_noticed(site: Site) -> None:
    os.kill(site.web[0], signal.SIGKILL)
    ends = time.monotonic() + 30
    while _answers(site.web_ports[0]):
        assert time.monotonic() < ends
        time.sleep(0.1)
    for _ in range(20):
        assert site.ask("/healthz")[0].status == 200


# The last one: it leaves the site with none.
def test_without_a_machine_everybody_is_told_when_to_come_back(site: Site) -> None:
    os.kill(site.web[1], signal.SIGKILL)
    ends = time.monotonic() + 30
    while _answers(site.web_ports[1]):
        assert time.monotonic() < ends
        time.sleep(0.1)
    for path in ("/v1/files", "/v1/uploads", "/v1/archives"):
        answer, body = site.ask(path, method="POST", body=b"x")
        told = problem_of(answer, body, 502)
        assert (told["instance"], answer.headers["Retry-After"]) == (path, "5")
    page, body = site.ask("/drive/")
    assert (page.status, page.headers["Content-Type"], page.headers["Retry-After"]) == (
        502,
        "text/plain",
        "5",
    )
    assert b"Try again" in body


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
