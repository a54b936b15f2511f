"""Uploads as people see them: a file in one call, and those that were begun and left."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from accounts.models import User
from drive.files import quota
from drive.formats.detect import DetectedType, sniff
from drive.models import File, Folder, OnConflict, Upload
from drive.storage import blobs
from drive.storage.blobs import Stored
from drive.uploads import rules, tasks
from drive.uploads.create_file import create_file

# An unfinished upload to which bytes came more recently is probably being sent just now.
LEFT_FOR = timedelta(seconds=60)
# A page shows this many unfinished uploads.
SHOWN = 5
logger = logging.getLogger(__name__)


def upload_file(
    *,
    owner: User,
    folder: Folder | None,
    name: str,
    content: BinaryIO,
    size: int,
    metadata: dict[str, Any] | None = None,
) -> File:
    """Take a file into the drive; a taken name gets a number. A worker then looks at all of it.

    Args:
        content: an open binary file, read from its start.
        size: bytes, as its sender or the server counted them.

    Raises:
        TooLarge: more bytes than one request may carry, or than the drive has room for.
        Invalid: it is empty, or nothing that the drive keeps (by content, not by name).
        Unavailable: the storage does not take it, being full for example.
    """
    stored, found = store_upload(owner=owner, content=content, size=size, limit=settings.UPLOAD_MAX_BYTES)
    return add_upload(owner=owner, folder=folder, name=name, stored=stored, facts=found, metadata=metadata)


def store_upload(*, owner: User, content: BinaryIO, size: int, limit: int) -> tuple[Stored, DetectedType]:
    """Recognise what was sent and store its bytes for `add_upload`. Raises as `upload_file`."""
    rules.check_length(size, limit=limit)
    quota.check_room(owner=owner, size=size)
    found = sniff(content)
    try:
        return blobs.store_file(content, found.content_type), found
    except OSError as error:
        logger.exception("Could not store what was uploaded")
        raise rules.cannot_store() from error


def add_upload(
    *,
    owner: User,
    folder: Folder | None,
    name: str,
    stored: Stored,
    facts: DetectedType,
    folders: Sequence[str] = (),
    metadata: dict[str, Any] | None = None,
    on_conflict: OnConflict | str = OnConflict.KEEP_BOTH,
    on_created: Callable[[File], None] | None = None,
) -> File:
    """Create a file of stored bytes and have a worker inspect it.

    Arguments and errors as `create_file.create_file`.
    """
    file = create_file(
        owner=owner,
        folder=folder,
        name=name,
        stored=stored,
        facts=facts,
        folders=folders,
        metadata=metadata,
        on_conflict=on_conflict,
        on_created=on_created,
    )
    transaction.on_commit(lambda: tasks.send_inspection(owner_id=str(owner.pk)))
    return file


def unfinished_uploads(*, owner: User) -> QuerySet[Upload]:
    """Return the owner's uploads of which something is still to come, the newest first."""
    rows = Upload.objects.filter(
        owner=owner, completed_at__isnull=True, sent_at__isnull=True, reason="", expires_at__gt=timezone.now()
    )
    left = rows.filter(updated_at__lt=timezone.now() - LEFT_FOR, offset__lt=F("length"))
    # Nobody but the program that sends it can go on with a part of a file.
    left = left.exclude(metadata__has_key=rules.CONCAT)
    return left.select_related("folder").order_by("-id")


def get_unfinished(*, owner: User, upload_id: UUID) -> Upload:
    """Return one of the `unfinished_uploads`. Raises NotFound."""
    upload = unfinished_uploads(owner=owner).filter(pk=upload_id).first()
    if upload is None:
        raise rules.upload_gone()
    return upload
