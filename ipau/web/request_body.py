"""Streamed request body: a thread reads it while it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ipau.web.client_socket import SlowClientError


class StreamedBody:
    """File-like `wsgi.input` that returns the bytes received before the client became too slow.

    If the client is too slow, a read of the whole rest raises: half a form must not look complete. A read of
    a part returns the available bytes, and the next read raises.
    """

    def __init__(self, body: Any, unreader: Any):
        self._body, self._unreader = body, unreader

    def read(self, size: int | None = None) -> bytes:
        """Return up to `size` bytes.

        Raises:
            SlowClientError: the client is below the minimum rate.
        """
        left = int(self._body.reader.length) + self._body.buf.tell()
        try:
            return bytes(self._body.read(size))
        except SlowClientError:
            if size is None or not 0 <= size < left:
                raise
            if not (received := self._take_received()):
                raise
            self._body.buf.write(received[size:])
            return received[:size]

    def _take_received(self) -> bytes:
        """Empty gunicorn's buffers; return their bytes of this body."""
        ahead = bytes(self._unreader.take_buffered())
        self._body.reader.length -= len(ahead)
        buffer = self._body.buf
        received = bytes(buffer.getvalue()) + ahead
        buffer.seek(0)
        buffer.truncate()
        return received

    def readline(self, size: int | None = None) -> bytes:
        """Return a line. Raises as `read`."""
        return bytes(self._body.readline(size))

    def readlines(self, size: int | None = None) -> list[bytes]:
        """Return all lines. Raises as `read`."""
        return list(self._body.readlines(size))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)
