"""What all ways of uploading share: life, checksums, idempotency keys, and where a file goes."""

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

# An upload to which nothing comes for so long is given up.
LIFE = timedelta(days=3)
# How much of a request's body is read at once, in bytes.
CHUNK = 256 * 1024
# In an upload's metadata: that it is a part of a file, or which parts it was made of.
CONCAT = "concat"
PARTIAL = "partial"


class ByteStream(Protocol):
    """Where bytes come from: a request."""

    def read(self, size: int, /) -> bytes: ...


class Digest(Protocol):
    """A running checksum of the bytes of one request, and what their sender says it comes to."""

    def update(self, data: bytes, /) -> None: ...

    def agrees(self) -> bool: ...


class WrongChecksum(DomainError):
    """The bytes changed on their way."""

    status = 460
    code = "wrong_checksum"
    title = "Checksum mismatch"


def upload_gone() -> NotFound:
    """Return the error for an upload that does not exist, or no longer."""
    return NotFound(_("This upload does not exist any more."))


def cannot_store(code: str = "storage_full") -> Unavailable:
    """Return the error for bytes that the storage does not take."""
    return Unavailable(_("The server cannot store this just now. Please try again later."), code=code)


def check_length(length: int, *, limit: int | None = None) -> None:
    """Raise Invalid for an empty file, TooLarge for one of more than `limit` bytes.

    Without `limit` it is `settings.RESUMABLE_MAX_BYTES`, the most that any file may have.
    """
    if length == 0:
        raise Invalid(_("This file is empty."), code="empty_file")
    limit = settings.RESUMABLE_MAX_BYTES if limit is None else limit
    if length > limit:
        numbers = {"size": -(-length // 2**20), "limit": limit // 2**20}
        raise TooLarge(_("This file has %(size)d MB; at most %(limit)d MB are accepted.") % numbers)


def key_of(owner: User, key: str) -> UUID:
    """Return the id of the upload that a request with this idempotency key begins. Raises Invalid."""
    check_key(key)
    return uuid5(owner.pk, key)


def same_request(earlier: Upload, values: dict[str, Any]) -> Upload:
    """Return what an earlier request with the same key began. Raises Conflict where it asked otherwise."""
    check_same(all(getattr(earlier, name) == value for name, value in values.items()))
    return earlier


def file_at(upload: Upload) -> File | None:
    """Return the file that has an upload's name in its place."""
    folder, missing = walk(upload.owner, upload.folder, ways_of(upload))
    if missing:
        return None
    return File.objects.filter(owner=upload.owner, folder=folder, name=upload.name).live().first()


def ways_of(upload: Upload) -> tuple[str, ...]:
    """Return the names of the folders to be made below an upload's folder, the outermost first."""
    return tuple(upload.relative_path.split("/")) if upload.relative_path else ()
