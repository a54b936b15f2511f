"""Part files: received bytes of unfinished resumable uploads.

A writer locks the file with flock. The kernel releases the lock when the process dies.
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
    """Return the path of an upload's part file."""
    return folder() / str(upload_id)


def folder() -> Path:
    return Path(settings.DATA_DIR) / "uploads"


@contextlib.contextmanager
def writing(upload_id: UUID) -> Iterator[BinaryIO]:
    """Open and lock an upload's part file for reading and writing.

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
    """Return the offset at which the client continues: the bytes of an upload that are safely stored.

    This is the recorded offset, or less if the part file is shorter or lost.
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
