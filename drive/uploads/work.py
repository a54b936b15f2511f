"""Inspection of new uploads by workers: decode under limits, create thumbnails, record the result."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO, cast
from uuid import UUID

from django.core.files.storage import default_storage
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from drive.formats.browser_support import needs_rendition
from drive.formats.detect import weights_facts
from drive.models import Blob, File, FileKind, FileState, NewThumbnail, Thumbnail
from drive.storage import blobs
from ipau.common import leases
from ipau.common.errors import Invalid
from workers import engine
from workers.media.picture import encode_thumbnail
from workers.media.video import read_video
from workers.plugin import OperationError
from workers.thumbnail_sizes import THUMBNAIL_SIDE, VIEW_SIDE

logger = logging.getLogger(__name__)

# The viewer shows larger images reduced to `VIEW_SIDE` until the user zooms in.
LARGE_BYTES = 2 * 1024**2
# A turn end after this many seconds, so that many uploads of one owner do not delay those of others.
TURN_SECONDS = 1.0
LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3


def inspect_uploads(owner_id: UUID) -> bool:
    """Inspect the owner's new uploads for about a second; return whether some are left."""
    end = time.monotonic() + TURN_SECONDS
    while file := leases.claim_first(_waiting(owner_id).order_by("id"), lease=LEASE):
        _inspect(file)
        if time.monotonic() >= end:
            return _waiting(owner_id).exists()
    return False


def _waiting(owner_id: UUID) -> models.QuerySet[File]:
    rows: models.QuerySet[File] = File.objects.filter(leases.free(), owner=owner_id, state=FileState.UPLOADED)
    return rows


def has_waiting(owner_id: UUID) -> bool:
    """Return whether the owner has uploads to inspect that no worker has claimed."""
    return _waiting(owner_id).exists()


def _inspect(file: File) -> None:
    if file.attempts > MAX_ATTEMPTS:
        _refuse(file, "Checking this file failed 3 times. Try to upload it again.")
        return
    try:
        inspection = _INSPECTORS[FileKind(file.kind)](file)
    except (OperationError, Invalid) as error:
        _refuse(file, error.message)
        return
    except OSError:
        # The storage does not answer: the lease expires and another turn retries.
        logger.exception("Could not read blob %s of file %s", file.blob_id, file.pk)
        return
    stored = {side: blobs.store(data, "image/webp") for side, data in inspection.thumbnails.items()}
    with transaction.atomic():
        blobs.register(stored.values())
        thumbnails = (NewThumbnail(file.blob_id, side, webp.sha256) for side, webp in stored.items())
        Thumbnail.objects.add_missing(thumbnails)
        _finish(
            file,
            state=FileState.READY,
            width=inspection.width,
            height=inspection.height,
            facts=inspection.facts,
        )


@dataclass(frozen=True)
class _Inspection:
    """Result: size in pixels after EXIF rotation, WebP thumbnails by side in pixels, and facts."""

    width: int | None = None
    height: int | None = None
    thumbnails: dict[int, bytes] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def _inspect_image(file: File) -> _Inspection:
    """Decode the image once and create its thumbnails. Raises PictureError."""
    data = blobs.read(file.blob_id)
    if not needs_rendition(file.content_type) and file.size <= LARGE_BYTES:
        small = engine.thumbnail(data, THUMBNAIL_SIDE)
        return _Inspection(small.facts.width, small.facts.height, {THUMBNAIL_SIDE: small.data})
    large = engine.thumbnail(data, VIEW_SIDE)
    small = engine.thumbnail(large.data, THUMBNAIL_SIDE)
    thumbnails = {THUMBNAIL_SIDE: small.data, VIEW_SIDE: large.data}
    return _Inspection(large.facts.width, large.facts.height, thumbnails)


def _inspect_video(file: File) -> _Inspection:
    """Read the header and, if it can be decoded, the first key frame. Raises VideoError."""
    with _content(file) as content:
        facts, poster = read_video(content, file.content_type)
    sides = () if poster is None else (THUMBNAIL_SIDE, VIEW_SIDE)
    thumbnails = {side: encode_thumbnail(poster, side).data for side in sides if poster is not None}
    return _Inspection(facts.width, facts.height, thumbnails, facts.as_json())


def _inspect_weights(file: File) -> _Inspection:
    """Read the header. Nothing is loaded."""
    with _content(file) as content:
        return _Inspection(facts=weights_facts(content))


_INSPECTORS = {
    FileKind.PICTURE: _inspect_image,
    FileKind.VIDEO: _inspect_video,
    FileKind.WEIGHTS: _inspect_weights,
}


@contextmanager
def _content(file: File) -> Iterator[BinaryIO]:
    """Open a file's bytes, which need not fit into memory."""
    with default_storage.open(Blob(sha256=file.blob_id).path) as content:
        # The raw file: Django's wrapper adds two calls to each read.
        yield cast(BinaryIO, content.file)


def _refuse(file: File, reason: str) -> None:
    _finish(file, state=FileState.REFUSED, reason=reason[:300])


def _finish(file: File, **changes: Any) -> None:
    """Record the result, unless another worker has the lease or the file's bytes were replaced."""
    rows = File.objects.filter(pk=file.pk, state=FileState.UPLOADED, blob_id=file.blob_id)
    leases.release(rows, token=file.lease_token, updated_at=timezone.now(), **changes)


def owners_waiting(*, older_than: timedelta) -> list[str]:
    """Return the owners of uploads that have waited for inspection longer than this."""
    new = Q(lease_expires_at__isnull=True, created_at__lt=timezone.now() - older_than)
    rows = File.objects.filter(new | leases.expired(), state=FileState.UPLOADED).order_by("owner")
    return [str(owner) for (owner,) in rows.values_list("owner").distinct()]
