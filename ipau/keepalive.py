"""Keep-alive: a connection ends with its response where much of the request's body was not read.

An early refusal leaves the rest of the body on the connection. Gunicorn reads a small rest and goes on, but
closes the connection where the rest is large, after a response that says `Connection: keep-alive`. A client
would then send its next request into a closed connection. Gunicorn drops `Connection` headers that
applications set, so its response object is asked to close.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# Gunicorn reads so much of a body that nobody wanted, and keeps the connection. Its own limit is 64 KiB.
REST_BYTES = 16 * 1024


class CountedBody:
    """The body of a request, which knows how much of it was read."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self.read_bytes = 0
        self.has_ended = False

    def read(self, *size: int) -> bytes:
        return self._count(self._body.read(*size), wanted=size[0] if size else None)

    def readline(self, *size: int) -> bytes:
        return self._count(self._body.readline(*size), wanted=size[0] if size else None)

    def readlines(self, *hint: int) -> list[bytes]:
        return [self._count(line, wanted=None) for line in self._body.readlines(*hint)]

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def _count(self, data: bytes, *, wanted: int | None) -> bytes:
        self.read_bytes += len(data)
        self.has_ended = self.has_ended or (not data and wanted != 0)
        return data


def close_on_unread_body(application: Application) -> Application:
    """Return the WSGI application, under which a response says that the connection closes where it does."""

    def counting(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        length = _length(environ)
        force_close = getattr(getattr(start_response, "__self__", None), "force_close", None)
        if length == 0 or force_close is None:
            return application(environ, start_response)
        body = environ["wsgi.input"] = CountedBody(environ["wsgi.input"])

        def start(*args: Any, **named: Any) -> Any:
            if not body.has_ended and (length is None or length - body.read_bytes > REST_BYTES):
                force_close()
            return start_response(*args, **named)

        return application(environ, start)

    return counting


def _length(environ: dict[str, Any]) -> int | None:
    """Return how many bytes the body has; None where its sender does not say."""
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    text = environ.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isdecimal() else 0
