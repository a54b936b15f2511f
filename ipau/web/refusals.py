"""Error responses that the web server sends itself, without running the application."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from ipau.common.api.problems import is_api_path
from ipau.common.api.views import PROBLEM, problem
from ipau.common.errors import OUR_FAULT, title_of

RETRY_SECONDS = 5
TOO_SLOW = "The request arrived too slowly. Check your connection and try again."
TOO_LARGE_HEAD = "The request line and headers are too large."
BUSY = f"The server is receiving the maximum number of uploads. Try again in {RETRY_SECONDS} seconds."
TOO_MANY_WAIT = f"Too many of your requests run at the same time. Try again in {RETRY_SECONDS} seconds."
TOO_MANY = f"Too many uploads from this address at the same time. Try again in {RETRY_SECONDS} seconds."
_CODES = {
    408: "request_timeout",
    414: "address_too_long",
    417: "expectation_failed",
    429: "rate_limited",
    431: "headers_too_large",
    500: "internal",
    501: "not_implemented",
    503: "unavailable",
}
# A target may be an absolute URL, as sent to proxies.
_ORIGIN = re.compile(rb"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


class Captured:
    """Fake socket that captures gunicorn's error response, so that a problem can replace it."""

    def __init__(self) -> None:
        self.data = b""

    def sendall(self, data: bytes) -> None:
        """Store the data."""
        self.data += data

    def gettimeout(self) -> float:
        """Return 0, as a socket that never blocks."""
        return 0.0

    @property
    def status(self) -> int:
        """Status of the captured response; 500 if there is none."""
        match = _STATUS.match(self.data)
        return int(match.group(1)) if match else 500


def path_of(target: bytes) -> str:
    """Return the path of a request target."""
    return _ORIGIN.sub(b"", target).partition(b"?")[0].decode("latin-1")


def is_for_api(target: bytes) -> bool:
    """Return whether the target belongs to the API, so that errors are problem+json."""
    return is_api_path(path_of(target))


def refusal_body(status: int, detail: str, target: bytes) -> tuple[str, bytes]:
    """Return content type and body of a refusal: a problem for the API, else plain text."""
    path = path_of(target)
    if not is_api_path(path):
        return "text/plain; charset=utf-8", f"{detail}\n".encode()
    code = _CODES.get(status, "parse_error")
    body = problem(status=status, title=title_of(status), detail=detail, code=code, instance=path)
    return PROBLEM, json.dumps(body).encode()


def refusal(status: int, detail: str, target: bytes = b"") -> bytes:
    """Return a complete response that closes the connection."""
    content_type, body = refusal_body(status, detail, target)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Connection: close",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
    ]
    if status in (429, 503):
        lines.append(f"Retry-After: {RETRY_SECONDS}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def send_error(write: Callable[[Any], None], sock: Any, target: bytes, error: Exception) -> None:
    """Send an error for a request that gunicorn cannot read, or whose application raised an exception.

    Args:
        write: logs the error and writes gunicorn's response to the given socket.
    """
    if not is_for_api(target):
        write(sock)
        return
    captured = Captured()
    write(captured)
    status = captured.status
    is_ours = status == HTTPStatus.INTERNAL_SERVER_ERROR
    detail = OUR_FAULT if is_ours else f"This request cannot be read: {error}"
    sock.send(refusal(status, f"{detail.rstrip('.')}.", target))
