"""What a request to the API may carry: each kind of body has a limit, told before a byte of it is read."""

import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework import parsers
from rest_framework.exceptions import ParseError

from ipau.common.errors import TooLarge

# What a multipart body carries besides the file: boundaries, headers, a few fields.
MULTIPART_EXTRA = 256 * 1024
# JSON of a job over 100,000 files: two for each, and some more. Each becomes a Python object.
MOST_JSON_GROUPS = 250_000
MOST_JSON_COMMAS = 1_000_000


class JSONParser(parsers.JSONParser):
    """JSON up to DATA_UPLOAD_MAX_MEMORY_SIZE, with nothing in it that the database cannot keep."""

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        _refuse_more_than(settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0, parser_context)
        return read_json(stream.read())


def read_json(raw: bytes | str) -> Any:
    """Read strict JSON.

    Raises:
        ParseError: it is none, or holds NUL, half a character, a number that is none, or too many values.
    """
    _refuse_many_values(raw)
    try:
        value = json.loads(raw, parse_constant=_no_number, parse_float=_number)
        if b"\\u" in raw if isinstance(raw, bytes) else "\\u" in raw:
            text = json.dumps(value, ensure_ascii=False)
            text.encode()
            if "\\u0000" in text:
                raise ValueError("it contains a NUL character")
    except RecursionError as error:
        raise ParseError("This JSON is nested too deeply.") from error
    except ValueError as error:
        raise ParseError(f"This is not JSON that can be read: {error}.") from error
    return value


def _refuse_many_values(raw: bytes | str) -> None:
    """Refuse what would become millions of objects. Marks inside of texts count too: the limits are wide."""
    if isinstance(raw, bytes):
        groups, commas = raw.count(b"[") + raw.count(b"{"), raw.count(b",")
    else:
        groups, commas = raw.count("[") + raw.count("{"), raw.count(",")
    if groups > MOST_JSON_GROUPS or commas > MOST_JSON_COMMAS:
        raise ParseError(
            f"This JSON has too many values: at most {MOST_JSON_GROUPS:,} lists and objects, and "
            f"{MOST_JSON_COMMAS:,} commas, are accepted."
        )


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


class MultiPartParser(parsers.MultiPartParser):
    """multipart/form-data up to the view's `max_bytes` (else UPLOAD_MAX_BYTES)."""

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        view = (parser_context or {}).get("view")
        limit = getattr(view, "max_bytes", settings.UPLOAD_MAX_BYTES)
        _refuse_more_than(limit + MULTIPART_EXTRA, parser_context)
        return super().parse(stream, media_type, parser_context)


class TextParser(parsers.BaseParser):
    """text/plain, a line or two."""

    media_type = "text/plain"
    max_bytes = 4096

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        _refuse_more_than(self.max_bytes, parser_context)
        return stream.read().decode(errors="replace").replace("\0", "")


def _refuse_more_than(limit: int, context: Mapping[str, Any] | None) -> None:
    """Refuse by the declared length, before a byte is read. The server gives no more than was declared."""
    meta = (context or {})["request"].META
    length = int(meta.get("CONTENT_LENGTH") or 0)
    if length > limit:
        raise TooLarge(f"This request has {length / 2**20:.0f} MB; at most {limit // 2**20} MB are accepted.")
