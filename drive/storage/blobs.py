"""Content-addressed bytes: storing, reading, and sweeping what nobody refers to.

Bytes are written before the row that names them, outside any transaction. The order makes a crash harmless:
it can leave bytes without a row, never a row without bytes.
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
# Bytes touched more recently may belong to work that has not been recorded yet.
GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class Stored:
    """Bytes that lie in the storage; `register` gives them their row."""

    sha256: str
    size: int
    content_type: str

    @property
    def path(self) -> str:
        return Blob(sha256=self.sha256).path


def store(data: bytes, content_type: str) -> Stored:
    """Write bytes into the storage unless they are there already."""
    stored = Stored(hashlib.sha256(data).hexdigest(), len(data), content_type)
    if not _still_there(stored):
        default_storage.save(stored.path, ContentFile(data))
    return stored


def store_file(content: BinaryIO, content_type: str) -> Stored:
    """As `store`, for an open file that need not fit into memory. Leaves it at an unspecified position."""
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
    """Have `write` put bytes at `stored.path` unless they lie there already."""
    if not _still_there(stored):
        write()


def _still_there(stored: Stored) -> bool:
    """Tell whether the bytes lie in the storage and stay there.

    Touching the row waits for a sweep that is just deleting it, and keeps the next one away. One that was
    touched lately is out of a sweep's reach for long enough. Bytes without a row are written again, which
    renews their age.
    """
    if not default_storage.exists(stored.path):
        return False
    now = timezone.now()
    row = Blob.objects.filter(pk=stored.sha256)
    if row.filter(touched_at__gt=now - GRACE / 2).exists():
        return True
    return bool(row.update(touched_at=now)) and default_storage.exists(stored.path)


def register(stored: Iterable[Stored]) -> None:
    """Make sure that each of these has a row. Call it in the transaction that refers to them."""
    now = timezone.now()
    # Always in the same order, so that two transactions with the same bytes cannot lock each other out.
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
        FileNotFoundError: the storage has lost them.
    """
    with open_bytes(sha256) as content:
        data: bytes = content.read()
    return data


def open_bytes(sha256: str) -> File[bytes]:
    """Return a blob's open file, for bytes that need not fit into memory. Raises as `read`."""
    return default_storage.open(Blob(sha256=sha256).path)
