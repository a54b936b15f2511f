"""Real HTTP servers that receive deliveries, each in its own threads."""

import contextlib
import http.server
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from ipaddress import ip_network
from typing import Any

import pytest

# Not a host name of the site. Those are 127.0.0.1 and localhost.
HOST = "127.0.0.2"
LOOPBACK = [ip_network("127.0.0.0/8")]


@dataclass
class ReceivedRequest:
    """One received request."""

    path: str
    headers: Message
    body: bytes


@dataclass
class Receiver:
    """A server: received requests, and next statuses. The last status is repeated."""

    answers: list[int] = field(default_factory=lambda: [200])
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer_body: bytes = b"thanks"
    delay: float = 0.0
    # Seconds between bytes of the response, which are then sent one by one.
    drip: float = 0.0
    got: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    host: str = HOST
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/hook?of=me"


def _handler(receiver: Receiver) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def setup(self) -> None:
            receiver.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append(ReceivedRequest(self.path, self.headers, body))
            time.sleep(receiver.delay)
            status = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
            if receiver.drip:
                self._drip(status)
            else:
                self._answer(status)

        do_GET = do_POST

        def _answer(self, status: int) -> None:
            self.send_response(status)
            for name, value in receiver.answer_headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(receiver.answer_body)))
            self.end_headers()
            self.wfile.write(receiver.answer_body)

        def _drip(self, status: int) -> None:
            for letter in f"HTTP/1.1 {status} OK\r\nX-Long: {'x' * 500}\r\n\r\n".encode():
                self.wfile.write(bytes([letter]))
                self.wfile.flush()
                time.sleep(receiver.drip)

        def log_message(self, *args: Any) -> None:
            """Print nothing in tests."""

    return Handler


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args: Any) -> None:
        """Ignore clients that close the connection: some tests do."""


@contextlib.contextmanager
def running(receiver: Receiver, *, certificate: tuple[str, str] | None = None) -> Iterator[Receiver]:
    server = _Server((receiver.host, 0), _handler(receiver))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        receiver.scheme = "https"
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def receive(settings: Any) -> Iterator[Callable[..., Receiver]]:
    """Return a function that starts allowed receivers: `receive(answers=[500, 200])`."""
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.WEBHOOK_ALLOWED_NETWORKS = LOOPBACK
    with contextlib.ExitStack() as stack:

        def start(*, certificate: tuple[str, str] | None = None, **options: Any) -> Receiver:
            return stack.enter_context(running(Receiver(**options), certificate=certificate))

        yield start
