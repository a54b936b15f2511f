"""The gunicorn worker of the site.

Gunicorn's `gthread` gives each new connection a thread, which waits for the client. Here the main loop waits
for all clients at once: it collects the head and a small body of a request, gives the request to a thread,
and sends what the client does not read at once. A thread waits for a client only while it reads a large body.
How many threads may do so is limited, and so is how slow that client may be.
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
from ipau.web.client_socket import Budget
from ipau.web.connection import Connection, State
from ipau.web.connection_table import ConnectionTable
from ipau.web.exchange import Exchange
from ipau.web.fair_queue import FairQueue
from ipau.web.limits import (
    BODY_BYTES,
    HEAD_BYTES,
    LINGER_BYTES,
    LINGER_SECONDS,
    READER_PATIENCE,
    READER_RATE_SHARE,
    STOP_LINGER_SECONDS,
    client_address,
    client_key,
    limits,
)
from ipau.web.request_head import Head
from ipau.web.shutdown import orphans, restart_turns
from ipau.web.streams import Streams
from ipau.web.thread_pools import ThreadPools

READ_BYTES = 64 * 1024
TICK_SECONDS = 0.5
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF)


class Worker(ThreadWorker):
    """A process of the web server: one main loop and several pools of threads."""

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
        """Refuse what this worker cannot do."""
        if cfg.is_ssl:
            raise RuntimeError("This web server speaks plain HTTP. TLS ends in nginx: docs/how-to/nginx.md.")

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Make all pools, and return the one that gunicorn knows of."""
        self.pools = ThreadPools(self.cfg.threads, self.limits.streams)
        return self.pools.general

    # --- The loop.

    def run(self) -> None:
        """Serve until told to stop, then end what is under way."""
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
            if connection.state in (State.IDLE, State.RECEIVING):
                # A request that is just arriving is still answered.
                connection.deadline = min(connection.deadline, now + STOP_KEEPALIVE_LINGER)
        while self.connections and time.monotonic() < ends:
            self._turn(TICK_SECONDS / 5)
        for connection in list(self.connections):
            if connection.state is not State.RUNNING:
                self._close(connection)
        self.pools.shutdown()
        self.poller.close()
        self.method_queue.close()
        for listener in self.sockets:
            listener.close()

    def _tick(self, now: float) -> None:
        """Close what has run out of time or takes too much memory."""
        for connection in list(self.connections):
            if connection.state is State.SENDING:
                self._guarded(self._check_reader, connection)
            elif connection.state is not State.RUNNING and now >= connection.deadline:
                self._guarded(self._run_out, connection)
        while (largest := self.connections.one_too_large()) is not None:
            self._close(largest)

    def _run_out(self, connection: Connection) -> None:
        if connection.state is State.RECEIVING:
            self._refuse(connection, 408, refusals.TOO_SLOW)
        elif connection.state is State.QUEUED:
            alone = self._streams.is_full_for(connection.stream_client)
            self._refuse(connection, *((429, refusals.TOO_MANY) if alone else (503, refusals.BUSY)))
        else:
            self._close(connection)

    def _check_reader(self, connection: Connection) -> None:
        """Cut off a client that reads below the minimum rate."""
        if connection.has_slow_reader():
            self.log.debug("A client reads too slowly: %s", connection.peer)
            self._close(connection)

    # --- Connections come and go.

    def accept(self, listener: Any) -> None:
        """Take a connection; where there are too many, close one that has least to lose."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM:
                if not self._close_one():
                    # Nothing to close: what runs must end first. The next turn of the loop tries again.
                    self.set_accept_enabled(False)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        connection = Connection(self.cfg, sock, client, listener.getsockname())
        if not self._make_room(connection.peer):
            connection.socket.close()
            return
        self.connections.add(connection)
        self._move(connection, State.IDLE, self.limits.slow_seconds)
        self._guarded(self._receive, connection)  # most clients have sent their request by now

    def _make_room(self, peer: str) -> bool:
        """Close what is in the way of another connection of a peer; False where that is running."""
        if self.connections.is_full_for(peer) and not self._close_one(peer):
            return False
        return not self.connections.is_full() or self._close_one()

    def _close_one(self, peer: str | None = None) -> bool:
        """Close the connection that loses least, of a peer or of all; False where all are running."""
        found = self.connections.first_to_close(peer)
        if found is not None:
            self._close(found)
        return found is not None

    def _close(self, connection: Connection) -> None:
        if connection.state is State.CLOSED:
            return
        was = connection.state
        self._move(connection, State.CLOSED)
        self._end_stream(connection)
        self.connections.remove(connection)
        if was is State.SENDING:
            connection.socket.reset()
        connection.socket.close()
        exchange = connection.exchange
        if exchange is not None and not exchange.is_done:
            connection.pool.submit(exchange.give_up)

    def _close_gracefully(self, connection: Connection) -> None:
        """Say that no more comes, and let the client read the response before the connection goes."""
        connection.socket.shutdown(socket.SHUT_WR)
        self._move(connection, State.CLOSING, LINGER_SECONDS if self.alive else STOP_LINGER_SECONDS)

    def _move(self, connection: Connection, state: State, seconds: float = 0.0) -> None:
        """Put a connection into a state, for at most so many seconds, and watch for what moves it on."""
        if connection.state is State.QUEUED:
            self._queue.remove(connection)
        if state is State.QUEUED:
            self._queue.append(connection)
        connection.state, connection.since = state, time.monotonic()
        connection.deadline = connection.since + seconds
        if state in (State.IDLE, State.RECEIVING, State.CLOSING):
            events = selectors.EVENT_READ
        else:
            events = selectors.EVENT_WRITE if state is State.SENDING else 0
        if events == connection.events:
            return
        if connection.events:
            self.poller.unregister(connection.socket)
        if events:
            self.poller.register(connection.socket, events, partial(self._on_event, connection))
        connection.events = events

    def _on_event(self, connection: Connection, _socket: Any) -> None:
        steps = {State.SENDING: self._send, State.CLOSING: self._linger}
        # An earlier event of the same turn may have closed it.
        if connection.state in (*steps, State.IDLE, State.RECEIVING):
            self._guarded(steps.get(connection.state, self._receive), connection)

    def _guarded(self, step: Any, connection: Connection) -> None:
        """Take a step; whatever goes wrong with one connection, the loop goes on."""
        try:
            step(connection)
        except OSError:
            self._close(connection)
        except Exception:
            self.log.exception("A connection failed")
            self._close(connection)

    # --- Requests come in.

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
        """Give the request to a thread when enough of it has come."""
        head = connection.find_head()
        if head is None:
            if len(connection.inbox) > HEAD_BYTES:
                self._refuse(connection, 431, refusals.TOO_LARGE_HEAD)
            elif connection.state is not State.RECEIVING:
                self._move(connection, State.RECEIVING, self.limits.slow_seconds)
        elif head.length > BODY_BYTES and len(connection.inbox) < head.size + head.length:
            self._queue_for_stream(connection, head)
        elif len(connection.inbox) >= head.size + head.length:
            self._dispatch(connection, head)
        else:
            self._collect_body(connection, head)

    def _collect_body(self, connection: Connection, head: Head) -> None:
        if not connection.awaits_body:
            connection.awaits_body = True
            seconds = self.limits.slow_seconds + head.length * 4 / self.limits.min_rate
            self._move(connection, State.RECEIVING, seconds)
            connection.ask_for_body(head)

    def _queue_for_stream(self, connection: Connection, head: Head) -> None:
        address = client_address(connection.peer_address, head.forwarded_for)
        connection.stream_client = client_key(address)
        self._move(connection, State.QUEUED, self.limits.stream_wait_seconds)
        self._start_streams()

    def _start_streams(self) -> None:
        """Give free streams to those who wait longest."""
        for connection in list(self._queue):
            # An earlier round of this loop may have ended it.
            if connection.state is State.QUEUED and self._streams.take(connection.stream_client):
                connection.has_stream = True
                self._guarded(self._begin_stream, connection)

    def _begin_stream(self, connection: Connection) -> None:
        assert connection.head is not None
        connection.socket.allow_waiting(Budget(self.limits.slow_seconds, self.limits.min_rate))
        self._dispatch(connection, connection.head)

    def _end_stream(self, connection: Connection) -> None:
        if connection.has_stream:
            connection.has_stream = False
            self._streams.give_back(connection.stream_client)
            self._start_streams()

    def _refuse(self, connection: Connection, status: int, detail: str) -> None:
        connection.socket.send(refusals.refusal(status, detail, connection.target))
        self._close_gracefully(connection)

    def _dispatch(self, connection: Connection, head: Head) -> None:
        connection.pool = self.pools.choose(head, has_stream=connection.has_stream)
        patience = self.limits.slow_seconds * READER_PATIENCE
        connection.expect_reader(Budget(patience, self.limits.min_rate / READER_RATE_SHARE))
        self._run(connection, self.handle)

    def _run(self, connection: Connection, step: Any) -> None:
        self._move(connection, State.RUNNING)
        if connection.pool is self.pools.general:
            self._fair_queue.add(connection, connection.requester, partial(self._start, connection, step))
        else:
            self._start(connection, step)

    def _start(self, connection: Connection, step: Any) -> None:
        future: Future[None] = connection.pool.submit(step, connection)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, connection, done))

    # --- Threads.

    def handle(self, conn: Connection) -> None:
        """Run a request in a thread, until it is answered or its client has to read."""
        request = None
        try:
            request = conn.next_request()
            if request is not None:
                self._count_request()
                conn.exchange = Exchange(self, conn, request)
                conn.exchange.begin()
        except (NoMoreData, StopIteration):
            self.log.debug("A client has gone in the middle of a request.")
        except Exception as error:  # noqa: BLE001  # the server answers whatever the application raises
            self._fail(conn, request, error)
        finally:
            conn.socket.forbid_waiting()

    def _go_on(self, connection: Connection) -> None:
        """Send more of a response, in a thread."""
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
            self.log.debug("A client has gone: %s", error)
        elif exchange is not None and exchange.headers_sent:
            # Too late for another answer. The client sees that this one is not whole.
            self.log.exception("Error handling request")
        else:
            write = partial(self.handle_error, request, addr=connection.client, exc=error)
            refusals.send_error(write, connection.socket, connection.target, error)

    def _count_request(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive and restart_turns.take():
            self.log.info("Autorestarting worker after current request.")
            self.alive = False

    # --- Responses go out.

    def finish_request(self, conn: Connection, fs: Future[None]) -> None:
        """See, in the main loop, what a thread has left to do."""
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
            if connection.state is not State.SENDING:
                self._move(connection, State.SENDING)
            return
        exchange = connection.exchange
        if exchange is not None and not exchange.is_done:
            self._run(connection, self._go_on)
        elif exchange is not None and exchange.keeps_alive:
            self._await_next(connection)
        else:
            self._close_gracefully(connection)

    def _await_next(self, connection: Connection) -> None:
        connection.begin_anew()
        seconds = self.cfg.keepalive if self.alive else min(self.cfg.keepalive, STOP_KEEPALIVE_LINGER)
        self._move(connection, State.IDLE, seconds)
        if connection.inbox:
            # The client has sent its next request already.
            self._consider(connection)

    def _linger(self, connection: Connection) -> None:
        data = connection.socket.raw.recv(READ_BYTES)
        connection.lingered += len(data)
        if not data or connection.lingered > LINGER_BYTES:
            self._close(connection)
