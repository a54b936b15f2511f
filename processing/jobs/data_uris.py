"""Parse data URIs as browsers do: https://fetch.spec.whatwg.org/#data-url-processor.

The standard allows line breaks, capitals, parameters, percent encoding and missing padding. URL-safe base64
(`-` and `_`) is accepted too, although browsers refuse it, because programs write it.
"""

import binascii
import re
from urllib.parse import unquote_to_bytes

SCHEME = "data:"
# Characters before the comma: a media type and its parameters.
MAX_HEAD = 1000
# The URL parser strips the first at both ends and removes the second anywhere.
_EDGES = "".join(map(chr, range(0x21)))
_NEWLINES = str.maketrans("", "", "\t\n\r")
_BASE64 = re.compile(r";\x20*base64\Z", re.IGNORECASE)
_WHITE_SPACE = b"\t\n\f\r "
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_OTHER = re.compile(rb"[^A-Za-z0-9+/]")


class NotADataUri(ValueError):
    """A data URI that cannot be parsed. The message says why."""


def is_data_uri(text: str) -> bool:
    """Return whether a text is a data URI, valid or not."""
    return text[:100].lstrip(_EDGES)[: len(SCHEME)].lower() == SCHEME


def read_data_uri(text: str) -> bytes:
    """Return the bytes of a data URI, never more than it has characters.

    Raises:
        NotADataUri: it has no comma, or its base64 is invalid.
    """
    text = text.strip(_EDGES).translate(_NEWLINES).partition("#")[0]
    head, comma, body = text[len(SCHEME) :].partition(",")
    if not comma or len(head) > MAX_HEAD:
        raise NotADataUri(
            "it has no comma between its type and its data, as in data:image/png;base64,iVBORw0…"
        )
    raw = body.encode("utf-8", "replace")
    if not _BASE64.search(head.strip("\t\n\f\r ")):
        return unquote_to_bytes(raw)
    return _read_base64(unquote_to_bytes(raw) if b"%" in raw else raw)


def _read_base64(body: bytes) -> bytes:
    """Decode forgiving base64: https://infra.spec.whatwg.org/#forgiving-base64-decode."""
    body = body.translate(_FROM_URL_SAFE, _WHITE_SPACE)
    if len(body) % 4 == 0:
        # More than two padding characters are invalid.
        body = body.removesuffix(b"=").removesuffix(b"=")
    other = _OTHER.search(body)
    if other is not None:
        raise NotADataUri(
            f"it is not valid base64: character {other.start() + 1} of its data is {_name(other[0])}."
        )
    if len(body) % 4 == 1:
        raise NotADataUri(
            "its base64 is incomplete: the last character is missing, or there is one too many."
        )
    return binascii.a2b_base64(body + b"=" * (-len(body) % 4))


def _name(byte: bytes) -> str:
    shown = byte.decode("latin-1")
    return f"“{shown}”" if shown.isprintable() else f"byte {byte[0]}"
