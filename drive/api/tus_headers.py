"""Strict parser of tus request headers. An ignored header could produce a broken file."""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from rest_framework import exceptions
from rest_framework.request import Request

from drive.files.paths import UploadPath, clean_path
from drive.models import OnConflict
from drive.uploads.concatenation import FINAL
from drive.uploads.rules import PARTIAL, Digest
from ipau.common.errors import Invalid

VERSION = "1.0.0"
CHECKSUMS = ("sha256", "sha1")
BODY = "application/offset+octet-stream"
MOST_PARTS = 100
_IS_TUS = "This is tus 1.0, not the IETF draft. An upload is complete at Upload-Length."
# Unsupported headers of tus extensions and other protocols, and what to do instead.
_NOT_OFFERED = {
    "Upload-Defer-Length": "The length must be known in advance. Send Upload-Length.",
    "Upload-Complete": _IS_TUS,
    "Upload-Incomplete": _IS_TUS,
    "Upload-Draft-Interop-Version": "This is tus 1.0, not the IETF draft. Send only Tus-Resumable.",
}
_PART = re.compile(r"/v1/uploads/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/?")


@dataclass(frozen=True)
class Concat:
    """Parsed Upload-Concat: a partial upload, or a final upload of `part_ids`."""

    part_ids: tuple[UUID, ...] = ()

    @property
    def is_final(self) -> bool:
        return bool(self.part_ids)

    @property
    def header(self) -> str:
        """The header as HEAD returns it."""
        if not self.is_final:
            return PARTIAL
        return f"{FINAL};{' '.join(f'/v1/uploads/{key}' for key in self.part_ids)}"


def refuse_unsupported_headers(request: Request) -> None:
    """Raise ParseError for an unsupported header that would change the meaning of the request."""
    for name, instead in _NOT_OFFERED.items():
        if name in request.headers:
            raise exceptions.ParseError(f"{name} is not supported. {instead}")
    if "upload-checksum" in request.headers.get("Trailer", "").lower():
        raise exceptions.ParseError(
            "A checksum after the body is not supported. Send Upload-Checksum as a header."
        )


def read_concat(request: Request) -> Concat | None:
    """Parse Upload-Concat; None if the header is missing. Raises ParseError."""
    header = request.headers.get("Upload-Concat")
    if header is None:
        return None
    kind, _semicolon, listed = header.partition(";")
    if kind.strip().lower() == PARTIAL and not listed.strip():
        return Concat()
    if kind.strip().lower() != FINAL:
        raise exceptions.ParseError("Upload-Concat must be `partial`, or `final;` and the URLs of the parts.")
    addresses = listed.split()
    if not 0 < len(addresses) <= MOST_PARTS:
        raise exceptions.ParseError(f"Upload-Concat: list 1 to {MOST_PARTS} parts after `final;`.")
    part_ids = tuple(_part_id(address) for address in addresses)
    if len(set(part_ids)) < len(part_ids):
        raise exceptions.ParseError("Upload-Concat: a part is listed twice.")
    return Concat(part_ids)


def _part_id(address: str) -> UUID:
    try:
        found = _PART.fullmatch(urlsplit(address).path)
    except ValueError:
        found = None
    if found is None:
        raise exceptions.ParseError(f"Upload-Concat: “{address[:200]}” is not the URL of an upload.")
    return UUID(found.group(1))


def media_type(request: Request) -> str:
    """Return the media type of the body, without parameters."""
    return (request.content_type or "").split(";")[0].strip().lower()


def carries_bytes(request: Request) -> bool:
    """Return whether the body has bytes of the upload."""
    return media_type(request) == BODY and request.META.get("CONTENT_LENGTH") not in (None, "", "0")


def read_number(request: Request, name: str) -> int:
    """Parse a header as an integer of 0 or more. Raises ParseError."""
    text = request.headers.get(name, "")
    # 18 digits fit into a BIGINT column.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise exceptions.ParseError(f"Send {name} as a whole number.")
    return int(text)


def read_metadata(header: str) -> Mapping[str, str]:
    """Parse Upload-Metadata, as "name dmFsdWU=,flag": values are base64 of UTF-8. Raises ParseError."""
    found: dict[str, str] = {}
    for pair in header.split(","):
        name, _, value = pair.strip().partition(" ")
        if not name:
            continue
        try:
            found[name] = base64.b64decode(value.strip(), validate=True).decode()
        except ValueError as error:
            raise exceptions.ParseError(f"Upload-Metadata: {name} is not base64 of UTF-8 text.") from error
    return found


def place_of(metadata: Mapping[str, str]) -> UploadPath:
    """Return name and folders of a file. Browsers send no path, "" or "null" with a single file."""
    path = metadata.get("relativePath", "")
    if path in ("", "null"):
        name = (metadata.get("filename") or metadata.get("name") or "").replace("\\", "/").rsplit("/", 1)[-1]
        # A name without a path is repaired, not refused.
        return clean_path(name if name.strip(". ") else "file")
    return clean_path(path)


def on_conflict_of(metadata: Mapping[str, str]) -> OnConflict:
    """Parse `onConflict`. Raises Invalid."""
    try:
        return OnConflict(metadata.get("onConflict") or OnConflict.KEEP_BOTH)
    except ValueError as error:
        choices = ", ".join(OnConflict.values)
        raise Invalid(f"onConflict must be one of: {choices}.", fields={"onConflict": "Unknown."}) from error


class Checksum:
    """Checksum of a body, compared with `Upload-Checksum`."""

    def __init__(self, algorithm: str, expected: bytes):
        self._digest = hashlib.new(algorithm, usedforsecurity=False)
        self._expected = expected

    def update(self, data: bytes, /) -> None:
        self._digest.update(data)

    def matches(self) -> bool:
        return hmac.compare_digest(self._digest.digest(), self._expected)


def read_checksum(request: Request) -> Digest | None:
    """Parse Upload-Checksum; None if the header is missing. Raises ParseError."""
    header = request.headers.get("Upload-Checksum")
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    if algorithm not in CHECKSUMS:
        raise exceptions.ParseError(f"Upload-Checksum: the algorithm must be one of {', '.join(CHECKSUMS)}.")
    try:
        return Checksum(algorithm, base64.b64decode(value, validate=True))
    except ValueError as error:
        raise exceptions.ParseError("Upload-Checksum: the digest is not base64.") from error
