"""Parsers of API request bodies. Each has a size limit, checked before the body is read."""

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework import parsers
from rest_framework.exceptions import ParseError

from ipau.common.errors import TooLarge
from ipau.common.strict_json import UnreadableJSON, read_json

# Bytes of a multipart body besides the file: boundaries, headers, a few fields.
MULTIPART_EXTRA = 256 * 1024


class JSONParser(parsers.JSONParser):
    """Strict JSON up to DATA_UPLOAD_MAX_MEMORY_SIZE, without values that the database cannot store."""

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        _refuse_more_than(settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0, parser_context)
        try:
            return read_json(stream.read())
        except UnreadableJSON as error:
            raise ParseError(str(error)) from error


class MultiPartParser(parsers.MultiPartParser):
    """multipart/form-data up to the view's `max_bytes` (default: UPLOAD_MAX_BYTES)."""

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
    """text/plain of up to 4 KiB."""

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
    """Raise TooLarge if the declared length exceeds `limit`. The server passes on no more than declared."""
    meta = (context or {})["request"].META
    length = int(meta.get("CONTENT_LENGTH") or 0)
    if length > limit:
        raise TooLarge(f"This request is {length / 2**20:.0f} MB. The limit is {limit // 2**20} MB.")
