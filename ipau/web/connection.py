"""Client connection and its state. The main loop of the worker changes the state; see `ipau.web.worker`."""

from __future__ import annotations

import enum
import socket
import time
from typing import Any

from gunicorn.http import get_parser

from ipau.web.client_socket import ClientSocket, WaitBudget
from ipau.web.exchange import Exchange
from ipau.web.limits import READER_RATE_SHARE, READER_TIME_FACTOR, ClientLimits, client_address, client_key
from ipau.web.request_head import RequestHead, read_head, target_of


class ConnectionState(enum.Enum):
    """State of a connection."""

    IDLE = "no byte of a request has arrived"
    RECEIVING = "waits for the rest of a head or a small body"
    QUEUED = "waits for a stream"
    WAITING = "waits for a thread"
    RUNNING = "a thread works on it"
    SENDING = "waits for the client to read"
    CLOSING = "the response is complete; waits for the client to close"
    CLOSED = "closed"


class Connection:
    """One connection of a client."""

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any):
        self.cfg, self.client, self.server = cfg, client, server
        self.socket = ClientSocket(sock)
        self.parser: Any = get_parser(cfg, self.socket, client)
        # Unix sockets have no addresses.
        self.peer_address = str(client[0]) if isinstance(client, tuple) else "127.0.0.1"
        self.peer = client_key(self.peer_address)
        self.state = ConnectionState.IDLE
        self.since = self.deadline = time.monotonic()
        self.events = 0
        self.inbox = bytearray()
        self.head: RequestHead | None = None
        self.exchange: Exchange | None = None
        self.pool: Any = None
        self.stream_client = ""
        """Client key that the stream of this connection counts for."""
        self.has_stream = False
        self.reader = WaitBudget(0, 1)
        """Time budget of the client for reading this response."""
        self.read = 0
        """Bytes that the client had received at the last check of the budget."""
        self.lingered = 0
        self.awaits_body = False
        self._searched = 0
        self._continued = False

    @property
    def target(self) -> bytes:
        """Target of the current request; empty if unknown."""
        return self.head.target if self.head else target_of(self.inbox)

    @property
    def requester(self) -> str:
        """Client of the current request: its API key or session, or else its address."""
        if self.head is None:
            return self.peer
        if self.head.credential:
            return self.head.credential.decode("latin-1")
        return client_key(client_address(self.peer_address, self.head.forwarded_for))

    def find_head(self) -> RequestHead | None:
        """Return the head of the next request, or None if it is incomplete."""
        if self.head is None and self.inbox:
            self.head = read_head(self.inbox, self._searched)
            self._searched = len(self.inbox)
        return self.head

    def ask_for_body(self, head: RequestHead) -> None:
        """Send `100 Continue` to a client that expects it."""
        if head.expects_continue and not self._continued:
            self._continued = True
            self.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def next_request(self) -> Any:
        """Parse the received request. Runs in a thread and does not wait for the client."""
        self.parser.unreader.unread(bytes(self.inbox))
        self.inbox.clear()
        request = next(self.parser)
        if self._continued and request is not None:
            request._expected_100_continue = False
        return request

    def expect_reader(self, limits: ClientLimits) -> None:
        """Set the client's time budget for reading the next response."""
        seconds, rate = limits.slow_seconds * READER_TIME_FACTOR, limits.min_rate / READER_RATE_SHARE
        self.reader, self.read = WaitBudget(seconds, rate), self.socket.received_by_client()

    def has_slow_reader(self) -> bool:
        """Update the reading budget; return whether it is spent."""
        now, read = time.monotonic(), self.socket.received_by_client()
        self.reader.spend(now - self.since)
        self.reader.earn(read - self.read)
        self.since, self.read = now, read
        return self.reader.left <= 0

    def reset_request(self) -> None:
        """Prepare for the next request. Its first bytes may have arrived already."""
        self.inbox += self.parser.unreader.take_buffered()
        self.head, self.exchange = None, None
        self._searched, self._continued, self.awaits_body = 0, False, False

    def held_bytes(self) -> int:
        """Return the size of this connection's buffers."""
        return len(self.inbox) + self.socket.unsent_bytes
