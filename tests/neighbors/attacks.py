"""Attacks by one ordinary account. Each continues until its block ends."""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import urllib3

from tests.neighbors.site import Client
from tests.neighbors.victim import bright, picture
from tests.workers.inference import bombs

# Without a pause it would be a flood of requests, which is another matter.
PAUSE_SECONDS = 0.2

Attack = Callable[["Attacker"], "contextlib.AbstractContextManager[None]"]


class Attacker:
    """An account that has had models converted which do harm on bright images."""

    def __init__(self, client: Client) -> None:
        self.client = client
        # One for each attack, for they are paused after some kills. All are different files.
        graphs = {"hog": bombs.memory_hog()}
        graphs |= {f"hang{n}": bombs.never_ending(200 + n) for n in range(3)}
        waiting = {name: client.convert(name, graph) for name, graph in graphs.items()}
        self.models = {name: client.wait_for_model(key) for name, key in waiting.items()}
        self.bright = [client.upload(f"bright{n}.png", bright(seed=n)) for n in range(12)]
        self._number = 0

    def count(self) -> int:
        """Return a number that was not returned before."""
        self._number += 1
        return self._number


@contextlib.contextmanager
def memory(attacker: Attacker) -> Iterator[None]:
    """Images that take nearly all the memory that a model may have."""
    job = attacker.client.submit(attacker.models["hog"], attacker.bright)
    yield
    attacker.client.ask("POST", f"/v1/jobs/{job}/cancel")


@contextlib.contextmanager
def conversions(attacker: Attacker) -> Iterator[None]:
    """Weights that take very long to convert."""
    for _ in range(2):
        name = f"slow{attacker.count()}"
        attacker.client.convert(name, bombs.slow_to_convert(200 + attacker.count()))
    yield


@contextlib.contextmanager
def time_bombs(attacker: Attacker) -> Iterator[None]:
    """Images over which a model never ends, in a job."""
    job = attacker.client.submit(attacker.models["hang0"], attacker.bright)
    yield
    attacker.client.ask("POST", f"/v1/jobs/{job}/cancel")


@contextlib.contextmanager
def previews(attacker: Attacker) -> Iterator[None]:
    """Sixteen previews at a time of a model that never ends."""

    def ask() -> None:
        fields = {"image": ("b.png", bright(seed=attacker.count()))}
        attacker.client.ask("POST", f"/v1/preview/{attacker.models['hang1']}", fields=fields)

    with _many(16, ask):
        yield


@contextlib.contextmanager
def waiting_predictions(attacker: Attacker) -> Iterator[None]:
    """Sixteen predictions at a time that wait for a model that never ends."""

    def ask() -> None:
        body = {"input": {"image": attacker.bright[attacker.count() % len(attacker.bright)]}}
        path = f"/v1/models/{attacker.models['hang2']}/predictions"
        attacker.client.ask("POST", path, body=body, headers={"Prefer": "wait"})

    with _many(16, ask):
        yield


@contextlib.contextmanager
def slow_headers(attacker: Attacker) -> Iterator[None]:
    """Forty connections that begin a request and never end it, without an account."""
    with _connections(attacker, 40) as connections:
        for connection in connections:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        with _dripping(connections, b"a"):
            yield


@contextlib.contextmanager
def slow_forms(attacker: Attacker) -> Iterator[None]:
    """Forty sign-in forms that come byte by byte, without an account."""
    head = (
        b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5000\r\n\r\nlogin="
    )
    with _connections(attacker, 40) as connections:
        for connection in connections:
            connection.sendall(head)
        with _dripping(connections, b"a"):
            yield


@contextlib.contextmanager
def slow_uploads(attacker: Attacker) -> Iterator[None]:
    """Thirty resumable uploads whose bytes come one by one."""
    places = []
    for _ in range(30):
        answer = attacker.client._pool.request(
            "POST",
            f"{attacker.client.base}/v1/uploads",
            headers={
                "Authorization": f"Bearer {attacker.client.key}",
                "Tus-Resumable": "1.0.0",
                "Upload-Length": "5000000",
                "Upload-Metadata": "filename YS5qcGc=",
            },
        )
        if answer.status == 201:
            places.append(urlsplit(answer.headers["Location"]).path)
    with _connections(attacker, len(places)) as connections:
        for connection, place in zip(connections, places, strict=True):
            connection.sendall(
                f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
                f"Authorization: Bearer {attacker.client.key}\r\nUpload-Offset: 0\r\n"
                "Content-Type: application/offset+octet-stream\r\nContent-Length: 5000000\r\n\r\n".encode()
            )
        with _dripping(connections, b"\xff"):
            yield
    for place in places:
        attacker.client.ask("DELETE", place, headers={"Tus-Resumable": "1.0.0"})


@contextlib.contextmanager
def slow_readers(attacker: Attacker) -> Iterator[None]:
    """Thirty readers of a large file who take hardly any of it."""
    data = picture(7, 4000) + bytes(30_000_000)
    file = attacker.client.upload("large.jpg", data)
    with _connections(attacker, 30, buffer=4096) as connections:
        for connection in connections:
            connection.sendall(
                f"GET /v1/files/{file}/content HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Authorization: Bearer {attacker.client.key}\r\n\r\n".encode()
            )
        yield
    attacker.client.ask("DELETE", f"/v1/files/{file}")


@contextlib.contextmanager
def crowded_headers(attacker: Attacker) -> Iterator[None]:
    """Eight at a time upload TIFFs of 65,000 tags."""

    def ask() -> None:
        fields = {"content": ("a.tif", crowded_tiff(seed=attacker.count()))}
        attacker.client.ask("POST", "/v1/files", fields=fields)

    with _many(8, ask):
        yield


ATTACKS: dict[str, Attack] = {
    function.__name__: function
    for function in (
        memory,
        conversions,
        time_bombs,
        previews,
        waiting_predictions,
        slow_headers,
        slow_forms,
        slow_uploads,
        slow_readers,
        crowded_headers,
    )
}


def crowded_tiff(*, seed: int) -> bytes:
    """Return a TIFF of one pixel with as many tags as a directory may hold. No other seed gives the same."""
    return _crowded_tiff() + struct.pack("<I", seed)


@functools.cache
def _crowded_tiff(tags: int = 65_000) -> bytes:
    needed = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)]
    others = [(1000 + n % 60_000, n) for n in range(tags - len(needed))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in needed + others)
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + struct.pack("<H", tags) + entries + bytes(4)


# --- Many at a time.


@contextlib.contextmanager
def _many(number: int, act: Callable[[], None]) -> Iterator[None]:
    """Have so many threads do something again and again while the block runs."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            # Whatever the site answers, and however long it asks to wait, this account tries again.
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                act()
            ended.wait(PAUSE_SECONDS)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(5)


@contextlib.contextmanager
def _connections(attacker: Attacker, number: int, *, buffer: int = 0) -> Iterator[list[socket.socket]]:
    where = urlsplit(attacker.client.base)
    opened: list[socket.socket] = []
    try:
        for _ in range(number):
            connection = socket.socket()
            if buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            connection.settimeout(10)
            opened.append(connection)
            with contextlib.suppress(OSError):
                connection.connect((where.hostname, where.port))
        yield opened
    finally:
        for connection in opened:
            connection.close()


@contextlib.contextmanager
def _dripping(connections: list[socket.socket], drop: bytes) -> Iterator[None]:
    """Send a byte over each connection now and then while the block runs."""
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.3):
            for connection in connections:
                # Some are closed by then: that is what the site should do.
                with contextlib.suppress(OSError):
                    connection.sendall(drop)

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
