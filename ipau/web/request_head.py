"""Request head: the fields that the main loop needs before a thread runs the request.

They only decide how long to wait for more bytes. Gunicorn's parser reads the request again and rejects
malformed ones. So a head that looks malformed counts as complete and goes to that parser at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.conf import settings

END = b"\r\n\r\n"
# Maximum length of the target that is read from an incomplete head.
MOST_TARGET = 8192
_SESSION = re.compile(rb"(?:^|;)\s*" + re.escape(settings.SESSION_COOKIE_NAME.encode()) + rb"=([^;\s]+)")


@dataclass(frozen=True)
class RequestHead:
    """A request line and headers."""

    size: int
    """Bytes of the head, including its empty line."""
    target: bytes = b""
    length: int = 0
    """Bytes of the body; 0 unless the head has exactly one valid length."""
    chunked: bool = False
    expects_continue: bool = False
    forwarded_for: str = ""
    credential: bytes = b""
    """API key or session of the request, not verified."""

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    @property
    def is_static(self) -> bool:
        """Whether the request is for a static file."""
        return self.target.startswith(b"/static/")


def read_head(data: bytearray, searched: int = 0) -> RequestHead | None:
    """Return the head at the start of `data`, or None if it is incomplete.

    Args:
        searched: number of bytes that an earlier call has searched.
    """
    start = max(0, searched - len(END))
    end = data.find(END, start)
    if end < 0:
        # A newline without CR is refused, and such a head may never contain the expected end.
        return RequestHead(len(data), target_of(data)) if _has_bare_newline(data, start) else None
    return _parse(bytes(data[:end]), end + len(END))


def _has_bare_newline(data: bytearray, start: int) -> bool:
    at = data.find(b"\n", start)
    while at >= 0:
        if at == 0 or data[at - 1] != 0x0D:
            return True
        at = data.find(b"\n", at + 1)
    return False


def _parse(text: bytes, size: int) -> RequestHead:
    line, *rest = text.removeprefix(b"\r\n").split(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3:
        return RequestHead(size, target_of(text))
    fields: dict[bytes, list[bytes]] = {}
    for field in rest:
        name, _, value = field.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    expects = [value.lower() for value in fields.get(b"expect", [])]
    return RequestHead(
        size=size,
        target=parts[1],
        length=_length(fields),
        chunked=b"transfer-encoding" in fields,
        expects_continue=parts[2] == b"HTTP/1.1" and expects == [b"100-continue"],
        forwarded_for=b",".join(fields.get(b"x-forwarded-for", [])).decode("latin-1"),
        credential=_credential(fields),
    )


def _credential(fields: dict[bytes, list[bytes]]) -> bytes:
    for value in fields.get(b"authorization", []):
        return value
    matches = (_SESSION.search(value) for value in fields.get(b"cookie", []))
    return next((match[1] for match in matches if match), b"")


def _length(fields: dict[bytes, list[bytes]]) -> int:
    """Return the length of the body; 0 if it is absent, repeated, contradicted or not a number."""
    values = fields.get(b"content-length", [])
    if (
        len(values) != 1
        or b"transfer-encoding" in fields
        or not (values[0].isdigit() and len(values[0]) < 19)
    ):
        return 0
    return int(values[0])


def target_of(data: bytes | bytearray) -> bytes:
    """Return the request target, as far as received; empty if this is not a request."""
    parts = bytes(data[:MOST_TARGET]).split(None, 2)
    return parts[1] if len(parts) > 1 else b""
