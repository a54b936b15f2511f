"""Part files: where the bytes of resumable uploads lie until the last one has come.

Who writes to a part file holds a lock on it that ends with the process: a killed server leaves none behind.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from django.conf import settings

from drive.models import Upload
from ipau.common.errors import DomainError


class Busy(DomainError):
    """Another request is sending bytes of the same upload."""

    status = 423
    code = "locked"
    title = "Locked"


def part_path(upload_id: UUID) -> Path:
    """Return where an upload's bytes lie."""
    return folder() / str(upload_id)


def folder() -> Path:
    return Path(settings.DATA_DIR) / "uploads"


@contextlib.contextmanager
def writing(upload_id: UUID) -> Iterator[BinaryIO]:
    """Open an upload's part file for reading and writing, for one request at a time.

    Raises:
        Busy: another request has it open.
    """
    path = part_path(upload_id)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "r+b") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy("Another request is sending bytes of this upload.") from error
        yield part


def received(upload: Upload) -> int:
    """Return how many bytes of an upload are safe here, which is where its sender goes on.

    That is what was written down, unless the disk has less: of a part file that was lost nothing remains.
    """
    if upload.completed_at is not None:
        return upload.length
    try:
        return min(upload.offset, part_path(upload.pk).stat().st_size)
    except FileNotFoundError:
        return 0


def remove(upload_id: UUID) -> None:
    """Delete an upload's part file, if there is one."""
    part_path(upload_id).unlink(missing_ok=True)
