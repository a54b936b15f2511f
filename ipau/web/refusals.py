"""Responses that the main loop gives by itself, when no thread is to run the request."""

from __future__ import annotations

import json
from http import HTTPStatus

from ipau.common.api import PROBLEM, problem

RETRY_SECONDS = 5
TOO_SLOW = "The request came too slowly. Check the connection and send it again."
TOO_LARGE_HEAD = "The request line and headers are too large."
BUSY = f"The server receives as many uploads as it can. Try again in {RETRY_SECONDS} seconds."
TOO_MANY = f"Too many uploads from this address at the same time. Try again in {RETRY_SECONDS} seconds."
_CODES = {408: "request_timeout", 429: "rate_limited", 431: "headers_too_large", 503: "unavailable"}


def refusal_body(status: int, detail: str, target: bytes) -> tuple[str, bytes]:
    """Return content type and body of a refusal: a problem for the API, a sentence for all else."""
    if not target.startswith(b"/v1/"):
        return "text/plain; charset=utf-8", f"{detail}\n".encode()
    path = target.partition(b"?")[0].decode("latin-1")
    title = HTTPStatus(status).phrase.capitalize()
    body = problem(status=status, title=title, detail=detail, code=_CODES[status], instance=path)
    return PROBLEM, json.dumps(body).encode()


def refusal(status: int, detail: str, target: bytes = b"") -> bytes:
    """Return a whole response that closes the connection."""
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
