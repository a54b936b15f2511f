"""One request and its response. A thread runs it until the client must read; then another thread continues.

The generator of a streamed response may resume in a different thread. Between two pieces, it must not hold
thread-bound objects such as a database cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import close_old_connections
from gunicorn.http import wsgi
from gunicorn.http.body import LengthReader

from ipau.web.client_socket import FLUSH_BYTES
from ipau.web.refusals import TOO_SLOW, refusal_body
from ipau.web.request_body import StreamedBody

if TYPE_CHECKING:
    from ipau.web.connection import Connection
    from ipau.web.worker import WebWorker

FILE_BLOCK_BYTES = 256 * 1024


class Exchange:
    """A response in progress."""

    def __init__(self, worker: WebWorker, connection: Connection, request: Any):
        self._worker, self._socket = worker, connection.socket
        self._parser, self._request = connection.parser, request
        self._began = datetime.now()
        self._response, self._environ = wsgi.create(
            request, connection.socket, connection.client, connection.server, worker.cfg
        )
        self._environ["wsgi.multithread"] = True
        if isinstance(request.body.reader, LengthReader):
            self._environ["wsgi.input"] = StreamedBody(request.body, connection.parser.unreader)
        self._result: Any = None
        self._pieces: Iterator[bytes] = iter(())
        self.is_done = False
        self.keeps_alive = False

    def begin(self) -> None:
        """Run the application, and send as much of its response as the client accepts."""
        self._result = self._worker.wsgi(self._environ, self._response.start_response)
        if self._socket.is_too_slow and not str(self._response.status).startswith("2"):
            self._replace_by_timeout()
        else:
            self._pieces = self._blocks()
        self._decide_keep_alive()
        self.go_on()

    def _blocks(self) -> Iterator[bytes]:
        if not isinstance(self._result, self._environ["wsgi.file_wrapper"]):
            return iter(self._result)
        return iter(lambda: self._result.filelike.read(FILE_BLOCK_BYTES), b"")

    def _replace_by_timeout(self) -> None:
        """Send 408 instead of the application's response to an incomplete request.

        A success is sent as it is: a resumable upload stored the received bytes and reports them.
        """
        content_type, body = refusal_body(408, TOO_SLOW, str(self._request.uri).encode("latin-1"))
        self._response = wsgi.Response(self._request, self._socket, self._worker.cfg)
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        self._response.start_response("408 Request Timeout", headers)
        self._pieces = iter([body])

    def _decide_keep_alive(self) -> None:
        """Close the connection after this response if the rest of the request is missing."""
        worker = self._worker
        if not worker.alive or not worker.cfg.keepalive or not self._has_whole_body():
            self._response.force_close()

    def _has_whole_body(self) -> bool:
        reader = self._request.body.reader
        if self._socket.is_too_slow or self._request.body.failed or not isinstance(reader, LengthReader):
            return False
        buffer = self._parser.unreader.buf
        return int(reader.length) <= len(buffer.getbuffer())

    def go_on(self) -> None:
        """Continue sending until the client's window is full or the response is complete."""
        try:
            self._send()
        except BaseException:
            self.give_up()
            raise

    def _send(self) -> None:
        close_old_connections()
        for piece in self._pieces:
            self._response.write(piece)
            if self._socket.unsent_bytes >= FLUSH_BYTES and not self._socket.flush():
                return
        self._response.close()
        self._socket.flush()
        self.keeps_alive = not self._response.should_close() and bool(self._parser.finish_body())
        self._end()

    @property
    def headers_sent(self) -> bool:
        """Whether it is too late to send an error response."""
        return bool(self._response.headers_sent)

    def give_up(self) -> None:
        """End an exchange with an incomplete response."""
        self.keeps_alive = False
        self._end()

    def _end(self) -> None:
        if self.is_done:
            return
        self.is_done = True
        worker = self._worker
        try:
            if self._response.status is not None:
                worker.log.access(self._response, self._request, self._environ, datetime.now() - self._began)
        finally:
            if hasattr(self._result, "close"):
                self._result.close()
