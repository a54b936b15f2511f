"""What the headers of a tus request say: read strictly, because what is ignored would make a broken file."""

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
_IS_TUS = "This is tus 1.0, not the draft of the IETF: an upload is complete at Upload-Length."
# Headers of extensions and of other protocols that are not offered, and what to do instead.
_NOT_OFFERED = {
    "Upload-Defer-Length": "The length must be known at the beginning: send Upload-Length.",
    "Upload-Complete": _IS_TUS,
    "Upload-Incomplete": _IS_TUS,
    "Upload-Draft-Interop-Version": "This is tus 1.0, not the draft of the IETF: send Tus-Resumable alone.",
}
_PART = re.compile(r"/v1/uploads/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/?")


@dataclass(frozen=True)
class Concat:
    """What Upload-Concat says: a part of a file, or the file of these parts."""

    part_ids: tuple[UUID, ...] = ()

    @property
    def is_final(self) -> bool:
        return bool(self.part_ids)

    @property
    def told(self) -> str:
        """The header as HEAD tells it again."""
        if not self.is_final:
            return PARTIAL
        return f"{FINAL};{' '.join(f'/v1/uploads/{key}' for key in self.part_ids)}"


def refuse_what_is_not_offered(request: Request) -> None:
    """Raise ParseError for a header that would change what the request means, if it were understood."""
    for name, instead in _NOT_OFFERED.items():
        if name in request.headers:
            raise exceptions.ParseError(f"{name} is not offered. {instead}")
    if "upload-checksum" in request.headers.get("Trailer", "").lower():
        raise exceptions.ParseError(
            "A checksum behind the body is not offered: send Upload-Checksum before it."
        )


def read_concat(request: Request) -> Concat | None:
    """Return what Upload-Concat says; None where there is none. Raises ParseError."""
    header = request.headers.get("Upload-Concat")
    if header is None:
        return None
    kind, _semicolon, listed = header.partition(";")
    if kind.strip().lower() == PARTIAL and not listed.strip():
        return Concat()
    if kind.strip().lower() != FINAL:
        raise exceptions.ParseError("Upload-Concat is `partial`, or `final;` and the addresses of the parts.")
    addresses = listed.split()
    if not 0 < len(addresses) <= MOST_PARTS:
        raise exceptions.ParseError(f"Upload-Concat: name between 1 and {MOST_PARTS} parts behind `final;`.")
    part_ids = tuple(_part_id(address) for address in addresses)
    if len(set(part_ids)) < len(part_ids):
        raise exceptions.ParseError("Upload-Concat: a part is named twice.")
    return Concat(part_ids)


def _part_id(address: str) -> UUID:
    try:
        found = _PART.fullmatch(urlsplit(address).path)
    except ValueError:
        found = None
    if found is None:
        raise exceptions.ParseError(f"Upload-Concat: “{address[:200]}” is no address of an upload.")
    return UUID(found.group(1))


def media_type(request: Request) -> str:
    """Return the type of the body without its parameters."""
    return (request.content_type or "").split(";")[0].strip().lower()


def carries_bytes(request: Request) -> bool:
    """Tell whether the request has bytes of the upload as its body."""
    return media_type(request) == BODY and request.META.get("CONTENT_LENGTH") not in (None, "", "0")


def read_number(request: Request, name: str) -> int:
    """Return a header that is a whole number. Raises ParseError."""
    text = request.headers.get(name, "")
    # Eighteen digits: what the database can count.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise exceptions.ParseError(f"Send {name} as a whole number.")
    return int(text)


def read_metadata(header: str) -> Mapping[str, str]:
    """Read "name dmFsdWU=,flag": values are UTF-8 in base64. Raises ParseError."""
    found: dict[str, str] = {}
    for pair in header.split(","):
        name, _, value = pair.strip().partition(" ")
        if not name:
            continue
        try:
            found[name] = base64.b64decode(value.strip(), validate=True).decode()
        except ValueError as error:
            raise exceptions.ParseError(f"Upload-Metadata: {name} is not UTF-8 in base64.") from error
    return found


def place_of(told: Mapping[str, str]) -> UploadPath:
    """Return name and folders. Browsers send no path, an empty one or "null" with a file chosen by itself."""
    path = told.get("relativePath", "")
    if path in ("", "null"):
        name = (told.get("filename") or told.get("name") or "").replace("\\", "/").rsplit("/", 1)[-1]
        # A name alone leads nowhere: an odd one is mended.
        return clean_path(name if name.strip(". ") else "file")
    return clean_path(path)


def on_conflict_of(told: Mapping[str, str]) -> OnConflict:
    """Return what to do where the name is taken. Raises Invalid."""
    try:
        return OnConflict(told.get("onConflict") or OnConflict.KEEP_BOTH)
    except ValueError as error:
        choices = ", ".join(OnConflict.values)
        raise Invalid(f"onConflict is one of: {choices}.", fields={"onConflict": "Unknown."}) from error


class Checksum:
    """What `Upload-Checksum` says about a body, compared with what comes."""

    def __init__(self, algorithm: str, wanted: bytes):
        self._digest = hashlib.new(algorithm, usedforsecurity=False)
        self._wanted = wanted

    def update(self, data: bytes, /) -> None:
        self._digest.update(data)

    def agrees(self) -> bool:
        return hmac.compare_digest(self._digest.digest(), self._wanted)


def read_checksum(request: Request) -> Digest | None:
    """Return what the body must come to; None where its sender does not say. Raises ParseError."""
    header = request.headers.get("Upload-Checksum")
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    if algorithm not in CHECKSUMS:
        raise exceptions.ParseError(f"Upload-Checksum: the algorithms are {', '.join(CHECKSUMS)}.")
    try:
        return Checksum(algorithm, base64.b64decode(value, validate=True))
    except ValueError as error:
        raise exceptions.ParseError("Upload-Checksum: the digest is not base64.") from error
