"""The little that has to be known of a request before a thread runs it.

This decides only how long to wait for bytes. Gunicorn's own parser reads the request again and refuses what
is malformed; so whatever looks odd here counts as complete and goes to that parser at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.conf import settings

END = b"\r\n\r\n"
# Of a target no more is looked at where a head is refused before all of it has come.
MOST_TARGET = 8192
_SESSION = re.compile(rb"(?:^|;)\s*" + re.escape(settings.SESSION_COOKIE_NAME.encode()) + rb"=([^;\s]+)")


@dataclass(frozen=True)
class Head:
    """A request line and headers."""

    size: int
    """Bytes of the head, its empty line included."""
    target: bytes = b""
    length: int = 0
    """Bytes of the body, where the head gives exactly one plausible length."""
    chunked: bool = False
    expects_continue: bool = False
    forwarded_for: str = ""
    credential: bytes = b""
    """The API key or the session that the request shows, which nobody has checked yet."""

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    @property
    def is_static(self) -> bool:
        """Whether it is for a style sheet, a script or the like."""
        return self.target.startswith(b"/static/")


def read_head(data: bytearray, searched: int = 0) -> Head | None:
    """Return the head at the start of `data`, or None where more bytes have to come.

    Args:
        searched: bytes from the start that an earlier call has seen.
    """
    start = max(0, searched - len(END))
    end = data.find(END, start)
    if end < 0:
        # A line that ends without CR is refused; its head may never have the end that is looked for.
        return Head(len(data), target_of(data)) if _has_bare_newline(data, start) else None
    return _parse(bytes(data[:end]), end + len(END))


def _has_bare_newline(data: bytearray, start: int) -> bool:
    at = data.find(b"\n", start)
    while at >= 0:
        if at == 0 or data[at - 1] != 0x0D:
            return True
        at = data.find(b"\n", at + 1)
    return False


def _parse(text: bytes, size: int) -> Head:
    line, *rest = text.removeprefix(b"\r\n").split(b"\r\n")
    words = line.split(b" ")
    if len(words) != 3:
        return Head(size, target_of(text))
    fields: dict[bytes, list[bytes]] = {}
    for field in rest:
        name, _, value = field.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    expects = [value.lower() for value in fields.get(b"expect", [])]
    return Head(
        size=size,
        target=words[1],
        length=_length(fields),
        chunked=b"transfer-encoding" in fields,
        expects_continue=words[2] == b"HTTP/1.1" and expects == [b"100-continue"],
        forwarded_for=b",".join(fields.get(b"x-forwarded-for", [])).decode("latin-1"),
        credential=_credential(fields),
    )


def _credential(fields: dict[bytes, list[bytes]]) -> bytes:
    for value in fields.get(b"authorization", []):
        return value
    found = (_SESSION.search(value) for value in fields.get(b"cookie", []))
    return next((match[1] for match in found if match), b"")


def _length(fields: dict[bytes, list[bytes]]) -> int:
    """Return the length of the body; 0 where it is absent, doubled, contradicted or no number."""
    found = fields.get(b"content-length", [])
    if len(found) != 1 or b"transfer-encoding" in fields or not (found[0].isdigit() and len(found[0]) < 19):
        return 0
    return int(found[0])


def target_of(data: bytes | bytearray) -> bytes:
    """Return what a request asks for, as far as its first line has come; nothing where it is no request."""
    words = bytes(data[:MOST_TARGET]).split(None, 2)
    return words[1] if len(words) > 1 else b""
