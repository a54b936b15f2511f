"""Data URIs, read as browsers read them: https://fetch.spec.whatwg.org/#data-url-processor.

Line ends, capitals, parameters, percent signs and missing padding are allowed there. The alphabet of
base64 for addresses (`-` and `_`) is taken besides, which browsers refuse: programs write it.
"""

import binascii
import re
from urllib.parse import unquote_to_bytes

SCHEME = "data:"
# Characters before the comma: a media type and its parameters.
MOST_HEAD = 1000
# What the parser of addresses strips at both ends, and drops anywhere.
_EDGES = "".join(map(chr, range(0x21)))
_NEWLINES = str.maketrans("", "", "\t\n\r")
_BASE64 = re.compile(r";\x20*base64\Z", re.IGNORECASE)
_WHITE_SPACE = b"\t\n\f\r "
_FOR_ADDRESSES = bytes.maketrans(b"-_", b"+/")
_OTHER = re.compile(rb"[^A-Za-z0-9+/]")


class NotADataUri(ValueError):
    """A data URI that cannot be read; the text says why."""


def is_data_uri(text: str) -> bool:
    """Tell whether a text is one, read or not."""
    return text[:100].lstrip(_EDGES)[: len(SCHEME)].lower() == SCHEME


def read_data_uri(text: str) -> bytes:
    """Return the bytes that a data URI holds, at most as many as it has characters.

    Raises:
        NotADataUri: it has no comma, or its base64 is damaged.
    """
    text = text.strip(_EDGES).translate(_NEWLINES).partition("#")[0]
    head, comma, body = text[len(SCHEME) :].partition(",")
    if not comma or len(head) > MOST_HEAD:
        raise NotADataUri(
            "it has no comma between its type and its data, as in data:image/png;base64,iVBORw0…"
        )
    raw = body.encode("utf-8", "replace")
    if not _BASE64.search(head.strip("\t\n\f\r ")):
        return unquote_to_bytes(raw)
    return _read_base64(unquote_to_bytes(raw) if b"%" in raw else raw)


def _read_base64(body: bytes) -> bytes:
    """Forgiving base64: https://infra.spec.whatwg.org/#forgiving-base64-decode."""
    body = body.translate(_FOR_ADDRESSES, _WHITE_SPACE)
    if len(body) % 4 == 0:
        # At most two signs of padding: more are no base64.
        body = body.removesuffix(b"=").removesuffix(b"=")
    other = _OTHER.search(body)
    if other is not None:
        raise NotADataUri(
            f"it is not base64: character {other.start() + 1} of its data is {_name(other[0])}."
        )
    if len(body) % 4 == 1:
        raise NotADataUri("its base64 is not whole: the last character is missing or one too many.")
    return binascii.a2b_base64(body + b"=" * (-len(body) % 4))


def _name(byte: bytes) -> str:
    shown = byte.decode("latin-1")
    return f"“{shown}”" if shown.isprintable() else f"byte {byte[0]}"
