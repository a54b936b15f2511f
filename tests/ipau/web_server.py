"""Real gunicorn for tests of the web server, and clients that send HTTP byte by byte."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class WebServer:
    """The site's gunicorn on a port of its own."""

    def __init__(self, env: Mapping[str, str], log: Path, *options: str):
        self.port, self.log = free_port(), log
        command = [sys.executable, "-m", "gunicorn", "-c", "python:ipau.gunicorn", "ipau.wsgi"]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "-b", f"127.0.0.1:{self.port}", *options],
                cwd=ROOT,
                env={**env},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        ends = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > ends:
                self.stop()
                raise AssertionError(f"The server did not start:\n{log.read_text()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Return status and body."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            client.request("GET", path, headers={name.replace("_", "-"): v for name, v in headers.items()})
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def connect(self, data: bytes = b"", *, receive_buffer: int = 0) -> socket.socket:
        """Return a connection on which `data` has been sent."""
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(30)
        client.connect(("127.0.0.1", self.port))
        if data:
            client.sendall(data)
        return client

    def ask(self, data: bytes) -> bytes:
        """Send `data` and return all that comes until the server closes."""
        with self.connect(data) as client:
            return read_all(client)

    def stop(self) -> float:
        """Stop as an operator does; return the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return time.monotonic() - began


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the end. A reset counts as one."""
    got = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(65536):
            got += piece
    return got


def read_response(client: socket.socket) -> tuple[bytes, bytes]:
    """Return head and body of one response that tells its length."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        assert byte, head
        head += byte
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    body = b""
    while len(body) < length:
        body += client.recv(length - len(body))
    return head, body


def read_to_end(client: socket.socket, seconds: float) -> bytes | None:
    """Return what the server sends before it closes; None where it does not close within so many seconds."""
    client.settimeout(seconds)
    ends = time.monotonic() + seconds
    got = b""
    try:
        while time.monotonic() < ends:
            if not (piece := client.recv(65536)):
                return got
            got += piece
    except ConnectionError:
        return got
    except TimeoutError:
        pass
    return None


def is_closed(client: socket.socket, seconds: float) -> bool:
    """Tell whether the server closes the connection within so many seconds, whatever it says before."""
    return read_to_end(client, seconds) is not None


class Trickle:
    """Connections on which something small is sent again and again, from a thread, until they break."""

    def __init__(self, clients: Iterable[socket.socket], piece: bytes, every: float):
        self.clients = list(clients)
        self._piece, self._every = piece, every
        self._ended = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        open_ones = list(self.clients)
        while not self._ended.wait(self._every):
            for client in list(open_ones):
                try:
                    client.send(self._piece)
                except OSError:
                    open_ones.remove(client)

    def end(self) -> None:
        """Stop sending and close all."""
        self._ended.set()
        self._thread.join()
        for client in self.clients:
            client.close()


def latency(ask: Callable[[], None], *, seconds: float) -> float:
    """Ask again and again for a while; return the 95th percentile of the seconds that it took."""
    took = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or len(took) < 20:
        began = time.monotonic()
        ask()
        took.append(time.monotonic() - began)
        time.sleep(0.01)
    return sorted(took)[int(len(took) * 0.95)]
