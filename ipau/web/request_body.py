"""The body of a request that a thread reads while it comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ipau.web.client_socket import SlowClientError


class StreamedBody:
    """A file-like `wsgi.input` that keeps what came before its client became too slow.

    A read that asks for all the rest raises then, because half a form must not pass for a whole one. A read
    that asks for a part returns what there is; the next one raises.
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
            if not (came := self._take()):
                raise
            self._body.buf.write(came[size:])
            return came[:size]

    def _take(self) -> bytes:
        """Return what gunicorn's buffers hold of this body, and leave them empty."""
        ahead = bytes(self._unreader.take_buffered())
        self._body.reader.length -= len(ahead)
        buffer = self._body.buf
        came = bytes(buffer.getvalue()) + ahead
        buffer.seek(0)
        buffer.truncate()
        return came

    def readline(self, size: int | None = None) -> bytes:
        """Return a line, as `read` does."""
        return bytes(self._body.readline(size))

    def readlines(self, size: int | None = None) -> list[bytes]:
        """Return all lines, as `read` does."""
        return list(self._body.readlines(size))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)
