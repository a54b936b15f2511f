"""Shared rules of all uploads: lifetime, length, checksums, idempotency keys, destination."""

from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID, uuid5

from django.conf import settings
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.paths import walk
from drive.models import File, Upload
from ipau.common.errors import DomainError, Invalid, NotFound, TooLarge, Unavailable
from ipau.common.idempotency import check_key, check_same

# An unfinished upload expires this long after its last bytes.
LIFE = timedelta(days=3)
# Bytes of a request body that are read at once.
CHUNK = 256 * 1024
# Key in an upload's metadata: `PARTIAL`, or the Upload-Concat header of a final upload.
CONCAT = "concat"
PARTIAL = "partial"


class ByteStream(Protocol):
    """A readable stream: the body of a request."""

    def read(self, size: int, /) -> bytes: ...


class Digest(Protocol):
    """A running checksum of a request's bytes, with the expected value from the client."""

    def update(self, data: bytes, /) -> None: ...

    def matches(self) -> bool: ...


class WrongChecksum(DomainError):
    """The bytes do not match the client's checksum."""

    status = 460
    code = "wrong_checksum"
    title = "Checksum mismatch"


def upload_gone() -> NotFound:
    """Return the error for an upload that does not exist or has expired."""
    return NotFound(_("This upload no longer exists. It may have expired or been deleted."))


def cannot_store(code: str = "storage_full") -> Unavailable:
    """Return the error for a storage that is full or does not answer."""
    return Unavailable(_("The server cannot store this just now. Please try again later."), code=code)


def check_length(length: int, *, limit: int | None = None) -> None:
    """Raise Invalid for an empty file, TooLarge for one of more than `limit` bytes.

    The default of `limit` is `settings.RESUMABLE_MAX_BYTES`, the maximum size of any file.
    """
    if length == 0:
        raise Invalid(_("This file is empty."), code="empty_file")
    limit = settings.RESUMABLE_MAX_BYTES if limit is None else limit
    if length > limit:
        numbers = {"size": -(-length // 2**20), "limit": limit // 2**20}
        raise TooLarge(_("This file has %(size)d MB. The limit is %(limit)d MB.") % numbers)


def key_of(owner: User, key: str) -> UUID:
    """Return the id of an upload from its idempotency key. Raises Invalid."""
    check_key(key)
    return uuid5(owner.pk, key)


def same_request(earlier: Upload, values: dict[str, Any]) -> Upload:
    """Return the upload of an earlier request with the same key. Raises Conflict if the values differ."""
    check_same(all(getattr(earlier, name) == value for name, value in values.items()))
    return earlier


def file_at(upload: Upload) -> File | None:
    """Return the existing file at an upload's destination, or None."""
    folder, missing = walk(upload.owner, upload.folder, folder_names_of(upload))
    if missing:
        return None
    return File.objects.filter(owner=upload.owner, folder=folder, name=upload.name).live().first()


def folder_names_of(upload: Upload) -> tuple[str, ...]:
    """Return the names of the folders to create below an upload's folder, outermost first."""
    return tuple(upload.relative_path.split("/")) if upload.relative_path else ()
