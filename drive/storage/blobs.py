"""Content-addressed storage: write, register and read blobs.

Bytes are written before the row that names them, outside any transaction. A crash can leave
bytes without a row, never a row without bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO

from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.utils import timezone

from drive.models import Blob

CHUNK = 1024 * 1024
DIGEST_LENGTH = 64
# Bytes touched more recently may belong to work that is not recorded yet.
GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class Stored:
    """Bytes in the storage; `register` creates their row."""

    sha256: str
    size: int
    content_type: str

    @property
    def path(self) -> str:
        return Blob(sha256=self.sha256).path


def store(data: bytes, content_type: str) -> Stored:
    """Write bytes to the storage unless they are already there."""
    stored = Stored(hashlib.sha256(data).hexdigest(), len(data), content_type)
    if not _still_there(stored):
        default_storage.save(stored.path, ContentFile(data))
    return stored


def store_file(content: BinaryIO, content_type: str) -> Stored:
    """Write an open file to the storage unless it is already there; it need not fit into memory.

    The position in `content` is unspecified afterwards.
    """
    digest = hashlib.sha256()
    size = 0
    content.seek(0)
    while chunk := content.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    stored = Stored(digest.hexdigest(), size, content_type)
    if not _still_there(stored):
        content.seek(0)
        default_storage.save(stored.path, File(content))
    return stored


def keep(stored: Stored, write: Callable[[], None]) -> None:
    """Call `write`, which puts bytes at `stored.path`, unless they are already there."""
    if not _still_there(stored):
        write()


def _still_there(stored: Stored) -> bool:
    """Return whether the bytes are in the storage and safe from the sweep.

    Touching the row waits for a sweep that is deleting it, and prevents the next one. A row that was touched
    recently is safe for long enough. Bytes without a row are written again, which renews their age.
    """
    if not default_storage.exists(stored.path):
        return False
    now = timezone.now()
    row = Blob.objects.filter(pk=stored.sha256)
    if row.filter(touched_at__gt=now - GRACE / 2).exists():
        return True
    return bool(row.update(touched_at=now)) and default_storage.exists(stored.path)


def register(stored: Iterable[Stored]) -> None:
    """Create missing rows of stored bytes. Call it in the transaction that refers to them."""
    now = timezone.now()
    # One order, so that two transactions with the same bytes cannot deadlock.
    rows = [
        Blob(sha256=s.sha256, size=s.size, content_type=s.content_type, touched_at=now)
        for s in sorted(set(stored), key=lambda s: s.sha256)
    ]
    Blob.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["sha256"], update_fields=["touched_at"]
    )


def read(sha256: str) -> bytes:
    """Return the bytes of a blob.

    Raises:
        FileNotFoundError: the bytes are not in the storage.
    """
    with open_bytes(sha256) as content:
        data: bytes = content.read()
    return data


def open_bytes(sha256: str) -> File[bytes]:
    """Open a blob for reading; its bytes need not fit into memory. Raises as `read`."""
    return default_storage.open(Blob(sha256=sha256).path)
