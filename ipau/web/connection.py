"""A client's connection and where it stands. The main loop of the worker moves it; see `ipau.web.worker`."""

from __future__ import annotations

import enum
import socket
import time
from typing import Any

from gunicorn.http import get_parser

from ipau.web.client_socket import Budget, ClientSocket
from ipau.web.exchange import Exchange
from ipau.web.limits import client_address, client_key
from ipau.web.request_head import Head, read_head, target_of


class State(enum.Enum):
    """Who has to do something next."""

    IDLE = "no byte of a request has come"
    RECEIVING = "the rest of a head or a small body is to come"
    QUEUED = "waits for a stream"
    RUNNING = "a thread has it"
    SENDING = "the client has to read"
    CLOSING = "the response is complete, the client has to close"
    CLOSED = "closed"


class Connection:
    """What is known of one connection."""

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any):
        self.cfg, self.client, self.server = cfg, client, server
        self.socket = ClientSocket(sock)
        self.parser: Any = get_parser(cfg, self.socket, client)
        # A socket file has no addresses.
        self.peer_address = str(client[0]) if isinstance(client, tuple) else "127.0.0.1"
        self.peer = client_key(self.peer_address)
        self.state = State.IDLE
        self.since = self.deadline = time.monotonic()
        self.events = 0
        self.inbox = bytearray()
        self.head: Head | None = None
        self.exchange: Exchange | None = None
        self.pool: Any = None
        self.stream_client = ""
        """Whom the stream of this connection is counted for."""
        self.has_stream = False
        self.reader = Budget(0, 1)
        """Seconds that this response may wait for its client."""
        self.read = 0
        """Bytes that the client had when the budget was last looked at."""
        self.lingered = 0
        self.awaits_body = False
        self._searched = 0
        self._continued = False

    @property
    def target(self) -> bytes:
        """What the current request asks for; nothing where that is not known yet."""
        return self.head.target if self.head else target_of(self.inbox)

    @property
    def requester(self) -> str:
        """What stands for whoever sends the current request: a key, a session, or else an address."""
        if self.head is None:
            return self.peer
        if self.head.credential:
            return self.head.credential.decode("latin-1")
        return client_key(client_address(self.peer_address, self.head.forwarded_for))

    def find_head(self) -> Head | None:
        """Return the head of the next request as soon as all of it has come."""
        if self.head is None and self.inbox:
            self.head = read_head(self.inbox, self._searched)
            self._searched = len(self.inbox)
        return self.head

    def ask_for_body(self, head: Head) -> None:
        """Tell a client that waits for it to send its body."""
        if head.expects_continue and not self._continued:
            self._continued = True
            self.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def next_request(self) -> Any:
        """Parse the request that has come. Run by a thread; waits for nothing."""
        self.parser.unreader.unread(bytes(self.inbox))
        self.inbox.clear()
        request = next(self.parser)
        if self._continued and request is not None:
            request._expected_100_continue = False
        return request

    def expect_reader(self, budget: Budget) -> None:
        """Let the client have so much time to read the response that comes now."""
        self.reader, self.read = budget, self.socket.received_by_client()

    def has_slow_reader(self) -> bool:
        """Count the time since the last look, and what the client has read; say whether no time is left."""
        now, read = time.monotonic(), self.socket.received_by_client()
        self.reader.spend(now - self.since)
        self.reader.earn(read - self.read)
        self.since, self.read = now, read
        return self.reader.left <= 0

    def begin_anew(self) -> None:
        """Make ready for the next request, the beginning of which may have come already."""
        self.inbox += self.parser.unreader.take_buffered()
        self.head, self.exchange = None, None
        self._searched, self._continued, self.awaits_body = 0, False, False

    def held_bytes(self) -> int:
        """Return what this connection takes of the process's memory."""
        return len(self.inbox) + self.socket.unsent_bytes
