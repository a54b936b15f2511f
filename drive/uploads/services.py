"""Services of uploads: upload a file in one call, and list unfinished uploads."""

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

# An upload that received bytes more recently is probably still active.
LEFT_FOR = timedelta(seconds=60)
# Unfinished uploads that a page shows.
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
    """Store a file and create its row; a taken name gets a number. A worker inspects it later.

    Args:
        content: an open binary file, read from its start.
        size: bytes, as counted by the client or the server.

    Raises:
        TooLarge: over the limit of one request, or no room in the drive.
        Invalid: the file is empty, or its content has an unsupported type.
        Unavailable: the storage is full or does not answer.
    """
    stored, found = store_upload(owner=owner, content=content, size=size, limit=settings.UPLOAD_MAX_BYTES)
    return add_upload(owner=owner, folder=folder, name=name, stored=stored, facts=found, metadata=metadata)


def store_upload(*, owner: User, content: BinaryIO, size: int, limit: int) -> tuple[Stored, DetectedType]:
    """Detect the type of a file and store its bytes for `add_upload`. Raises as `upload_file`."""
    rules.check_length(size, limit=limit)
    quota.check_room(owner=owner, size=size)
    found = sniff(content)
    try:
        return blobs.store_file(content, found.content_type), found
    except OSError as error:
        logger.exception("Could not store an upload")
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
    """Return the owner's inactive, incomplete uploads, newest first."""
    rows = Upload.objects.filter(
        owner=owner, completed_at__isnull=True, sent_at__isnull=True, reason="", expires_at__gt=timezone.now()
    )
    left = rows.filter(updated_at__lt=timezone.now() - LEFT_FOR, offset__lt=F("length"))
    # Only the program that began a partial upload can continue it.
    left = left.exclude(metadata__has_key=rules.CONCAT)
    return left.select_related("folder").order_by("-id")


def get_unfinished(*, owner: User, upload_id: UUID) -> Upload:
    """Return one of the `unfinished_uploads`. Raises NotFound."""
    upload = unfinished_uploads(owner=owner).filter(pk=upload_id).first()
    if upload is None:
        raise rules.upload_gone()
    return upload
