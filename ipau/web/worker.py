"""Gunicorn worker class of the site.

Gunicorn's `gthread` gives each new connection a thread, which waits for the client. Here, the main loop waits
for all clients at once: it receives the head and a small body of a request, passes the request to a thread,
and sends the rest of the response. A few threads wait for clients, which must keep a minimum rate.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn.http.errors import NoMoreData
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, ThreadWorker

from ipau.web import refusals
from ipau.web.client_socket import WaitBudget
from ipau.web.connection import Connection, ConnectionState
from ipau.web.connection_table import ConnectionTable
from ipau.web.exchange import Exchange
from ipau.web.fair_queue import MAX_STUCK_SECONDS, FairQueue
from ipau.web.limits import (
    BODY_BYTES,
    HEAD_BYTES,
    LINGER_BYTES,
    LINGER_SECONDS,
    STOP_LINGER_SECONDS,
    client_address,
    client_key,
    limits,
)
from ipau.web.request_head import RequestHead
from ipau.web.shutdown import orphans, restart_turns
from ipau.web.streams import Streams
from ipau.web.thread_pools import ThreadPools

READ_BYTES = 64 * 1024
TICK_SECONDS = 0.5
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF)


class WebWorker(ThreadWorker):
    """A process of the web server: one main loop and several thread pools."""

    tpool: ThreadPoolExecutor
    poller: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]  # gunicorn has no types
        self.limits = limits()
        self.connections = ConnectionTable(self.limits)
        self._streams = Streams(self.limits.streams, self.limits.streams_per_address)
        self._queue: list[Connection] = []
        self._fair_queue = FairQueue(self.cfg.threads, self.limits.requests_per_client)
        self._ticked = 0.0
        self._orphanhood = orphans.Orphanhood(self.cfg, self.ppid)
        restart_turns.prepare()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:  # noqa: ARG003  # gunicorn's signature
        """Raise for settings that this worker does not support."""
        if cfg.is_ssl:
            raise RuntimeError("This web server has no TLS. Use nginx for HTTPS: docs/how-to/nginx.md.")

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Create all pools; return the general one, which gunicorn uses."""
        self.pools = ThreadPools(self.cfg.threads, self.limits.streams)
        return self.pools.general

    # --- Main loop.

    def run(self) -> None:
        """Serve until stopped, then finish running requests."""
        self.poller.register(
            self.method_queue.fileno(), selectors.EVENT_READ, self.method_queue.run_callbacks
        )
        self.set_accept_enabled(True)
        while self.alive:
            self.set_accept_enabled(True)
            self._turn(TICK_SECONDS)
            if self._orphanhood.is_over():
                break
        self._stop()

    def _turn(self, seconds: float) -> None:
        self.notify()
        self.wait_for_and_dispatch_events(seconds)
        now = time.monotonic()
        if now - self._ticked >= TICK_SECONDS / 2:
            self._ticked = now
            self._tick(now)

    def _stop(self) -> None:
        self.set_accept_enabled(False)
        now = time.monotonic()
        ends = now + self.cfg.graceful_timeout
        for connection in self.connections:
            if connection.state in (ConnectionState.IDLE, ConnectionState.RECEIVING):
                # Still answer a request that is just arriving.
                connection.deadline = min(connection.deadline, now + STOP_KEEPALIVE_LINGER)
        while self.connections and time.monotonic() < ends:
            self._turn(TICK_SECONDS / 5)
        for connection in list(self.connections):
            if connection.state is not ConnectionState.RUNNING:
                self._close(connection)
        self.pools.shutdown()
        self.poller.close()
        self.method_queue.close()
        for listener in self.sockets:
            listener.close()

    def _tick(self, now: float) -> None:
        """Close connections that are past their deadline or use too much memory."""
        for connection in list(self.connections):
            if connection.state is ConnectionState.SENDING:
                self._guarded(self._check_reader, connection)
            elif connection.state is not ConnectionState.RUNNING and now >= connection.deadline:
                self._guarded(self._time_out, connection)
        while (largest := self.connections.one_too_large()) is not None:
            self._close(largest)

    def _time_out(self, connection: Connection) -> None:
        if connection.state is ConnectionState.RECEIVING:
            self._refuse(connection, 408, refusals.TOO_SLOW)
        elif connection.state is ConnectionState.QUEUED:
            is_client_full = self._streams.is_full_for(connection.stream_client)
            self._refuse(connection, *((429, refusals.TOO_MANY) if is_client_full else (503, refusals.BUSY)))
        elif connection.state is not ConnectionState.WAITING:
            self._close(connection)
        elif self._fair_queue.is_stuck(connection, MAX_STUCK_SECONDS):
            self._refuse(connection, 429, refusals.TOO_MANY_WAIT)
        else:
            connection.deadline = time.monotonic() + MAX_STUCK_SECONDS

    def _check_reader(self, connection: Connection) -> None:
        """Disconnect a client that reads below the minimum rate."""
        if connection.has_slow_reader():
            self.log.debug("A client reads too slowly: %s", connection.peer)
            self._close(connection)

    # --- Connections.

    def accept(self, listener: Any) -> None:
        """Accept a connection. If there are too many, close the one that loses least."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                if not self._close_one():
                    # All connections are running. The next turn of the loop tries again.
                    self.set_accept_enabled(False)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        connection = Connection(self.cfg, sock, client, listener.getsockname())
        if not self._make_room(connection.peer):
            connection.socket.close()
            return
        self.connections.add(connection)
        self._move(connection, ConnectionState.IDLE, self.limits.slow_seconds)
        self._guarded(self._receive, connection)  # most clients have already sent their request

    def _make_room(self, peer: str) -> bool:
        """Close a connection so that a peer can have another one; return False if all are running."""
        if self.connections.is_full_for(peer) and not self._close_one(peer):
            return False
        return not self.connections.is_full() or self._close_one()

    def _close_one(self, peer: str | None = None) -> bool:
        """Close the connection that loses least, of a peer or of all; return False if all are running."""
        connection = self.connections.first_to_close(peer)
        if connection is not None:
            self._close(connection)
        return connection is not None

    def _close(self, connection: Connection) -> None:
        if connection.state is ConnectionState.CLOSED:
            return
        previous_state = connection.state
        self._move(connection, ConnectionState.CLOSED)
        self._end_stream(connection)
        self.connections.remove(connection)
        if previous_state is ConnectionState.SENDING:
            connection.socket.reset()
        connection.socket.close()
        exchange = connection.exchange
        if exchange is not None and not exchange.is_done:
            connection.pool.submit(exchange.give_up)

    def _close_gracefully(self, connection: Connection) -> None:
        """Shut down sending, and let the client read the response before the connection is closed."""
        connection.socket.shutdown(socket.SHUT_WR)
        self._move(connection, ConnectionState.CLOSING, LINGER_SECONDS if self.alive else STOP_LINGER_SECONDS)

    def _move(self, connection: Connection, state: ConnectionState, seconds: float = 0.0) -> None:
        """Change the state of a connection, for at most `seconds`, and poll for the events that end it."""
        if connection.state is ConnectionState.WAITING:
            self._fair_queue.remove(connection)
        if connection.state is ConnectionState.QUEUED:
            self._queue.remove(connection)
        if state is ConnectionState.QUEUED:
            self._queue.append(connection)
        connection.state, connection.since = state, time.monotonic()
        connection.deadline = connection.since + seconds
        if state in (ConnectionState.IDLE, ConnectionState.RECEIVING, ConnectionState.CLOSING):
            events = selectors.EVENT_READ
        else:
            events = selectors.EVENT_WRITE if state is ConnectionState.SENDING else 0
        if events == connection.events:
            return
        if connection.events:
            self.poller.unregister(connection.socket)
        if events:
            self.poller.register(connection.socket, events, partial(self._on_event, connection))
        connection.events = events

    def _on_event(self, connection: Connection, _socket: Any) -> None:
        steps = {ConnectionState.SENDING: self._send, ConnectionState.CLOSING: self._linger}
        # An earlier event in the same turn may have closed it.
        if connection.state in (*steps, ConnectionState.IDLE, ConnectionState.RECEIVING):
            self._guarded(steps.get(connection.state, self._receive), connection)

    def _guarded(self, step: Any, connection: Connection) -> None:
        """Run a step. If it fails, close the connection; the main loop continues."""
        try:
            step(connection)
        except OSError:
            self._close(connection)
        except Exception:
            self.log.exception("A connection failed")
            self._close(connection)

    # --- Requests.

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.raw.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._close(connection)
            return
        connection.inbox += data
        self._consider(connection)

    def _consider(self, connection: Connection) -> None:
        """Pass the request to a thread if enough of it has arrived."""
        head = connection.find_head()
        if head is None:
            if len(connection.inbox) > HEAD_BYTES:
                self._refuse(connection, 431, refusals.TOO_LARGE_HEAD)
            elif connection.state is not ConnectionState.RECEIVING:
                self._move(connection, ConnectionState.RECEIVING, self.limits.slow_seconds)
        elif head.length > BODY_BYTES and len(connection.inbox) < head.size + head.length:
            self._queue_for_stream(connection, head)
        elif len(connection.inbox) >= head.size + head.length:
            self._dispatch(connection, head)
        else:
            self._collect_body(connection, head)

    def _collect_body(self, connection: Connection, head: RequestHead) -> None:
        if not connection.awaits_body:
            connection.awaits_body = True
            seconds = self.limits.slow_seconds + head.length * 4 / self.limits.min_rate
            self._move(connection, ConnectionState.RECEIVING, seconds)
            connection.ask_for_body(head)

    def _queue_for_stream(self, connection: Connection, head: RequestHead) -> None:
        address = client_address(connection.peer_address, head.forwarded_for)
        connection.stream_client = client_key(address)
        self._move(connection, ConnectionState.QUEUED, self.limits.stream_wait_seconds)
        self._start_streams()

    def _start_streams(self) -> None:
        """Give free streams to the connections that have waited longest."""
        for connection in list(self._queue):
            # An earlier iteration may have ended it.
            if connection.state is ConnectionState.QUEUED and self._streams.take(connection.stream_client):
                connection.has_stream = True
                self._guarded(self._begin_stream, connection)

    def _begin_stream(self, connection: Connection) -> None:
        assert connection.head is not None
        connection.socket.allow_waiting(WaitBudget(self.limits.slow_seconds, self.limits.min_rate))
        self._dispatch(connection, connection.head)

    def _end_stream(self, connection: Connection) -> None:
        if connection.has_stream:
            connection.has_stream = False
            self._streams.give_back(connection.stream_client)
            self._start_streams()

    def _refuse(self, connection: Connection, status: int, detail: str) -> None:
        connection.socket.send(refusals.refusal(status, detail, connection.target))
        self._close_gracefully(connection)

    def _dispatch(self, connection: Connection, head: RequestHead) -> None:
        connection.pool = self.pools.choose(head, has_stream=connection.has_stream)
        connection.expect_reader(self.limits)
        start = partial(self._run, connection, self.handle)
        if connection.pool is not self.pools.general:
            return start()
        self._move(connection, ConnectionState.WAITING, MAX_STUCK_SECONDS)
        return self._fair_queue.add(connection, connection.requester, start)

    def _run(self, connection: Connection, step: Any) -> None:
        self._move(connection, ConnectionState.RUNNING)
        future: Future[None] = connection.pool.submit(step, connection)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, connection, done))

    # --- Threads.

    def handle(self, conn: Connection) -> None:
        """Run a request in a thread, until the response is complete or the client must read."""
        request = None
        try:
            request = conn.next_request()
            if request is not None:
                self._count_request()
                conn.exchange = Exchange(self, conn, request)
                conn.exchange.begin()
        except (NoMoreData, StopIteration):
            self.log.debug("A client disconnected during a request.")
        except Exception as error:  # noqa: BLE001  # the server answers whatever the application raises
            self._fail(conn, request, error)
        finally:
            conn.socket.forbid_waiting()

    def _go_on(self, connection: Connection) -> None:
        """Continue a response in a thread."""
        assert connection.exchange is not None
        try:
            connection.exchange.go_on()
        except Exception as error:  # noqa: BLE001  # as in `handle`
            self._fail(connection, None, error)

    def _fail(self, connection: Connection, request: Any, error: Exception) -> None:
        exchange = connection.exchange
        if exchange is not None:
            exchange.give_up()
        if isinstance(error, OSError) and error.errno in _GONE:
            self.log.debug("A client disconnected: %s", error)
        elif exchange is not None and exchange.headers_sent:
            # Too late for an error response. The client sees that the response is incomplete.
            self.log.exception("Error handling request")
        else:
            write = partial(self.handle_error, request, addr=connection.client, exc=error)
            refusals.send_error(write, connection.socket, connection.target, error)

    def _count_request(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive and restart_turns.take():
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    # --- Responses.

    def finish_request(self, conn: Connection, fs: Future[None]) -> None:
        """Continue in the main loop after a thread has finished with a request."""
        self._end_stream(conn)
        self._fair_queue.end(conn)
        error = fs.exception()
        if error is None:
            self._guarded(self._send, conn)
        else:
            self.log.error("A thread failed", exc_info=error)
            self._close(conn)

    def _send(self, connection: Connection) -> None:
        if not connection.socket.flush():
            if connection.state is not ConnectionState.SENDING:
                self._move(connection, ConnectionState.SENDING)
            return
        exchange = connection.exchange
        if exchange is not None and not exchange.is_done:
            self._run(connection, self._go_on)
        elif exchange is not None and exchange.keeps_alive:
            self._await_next(connection)
        else:
            self._close_gracefully(connection)

    def _await_next(self, connection: Connection) -> None:
        connection.reset_request()
        seconds = self.cfg.keepalive if self.alive else min(self.cfg.keepalive, STOP_KEEPALIVE_LINGER)
        self._move(connection, ConnectionState.IDLE, seconds)
        if connection.inbox:
            # The client has already sent its next request.
            self._consider(connection)

    def _linger(self, connection: Connection) -> None:
        data = connection.socket.raw.recv(READ_BYTES)
        connection.lingered += len(data)
        if not data or connection.lingered > LINGER_BYTES:
            self._close(connection)
