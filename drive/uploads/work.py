"""What a worker does with a new upload: look at all of it under limits, make its thumbnail, say so."""

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

# Pictures of more bytes than this are shown reduced to `VIEW_SIDE`, until somebody zooms in.
LARGE_BYTES = 2 * 1024**2
# A turn ends after this many seconds, so that one owner's thousand uploads do not hold up another's one.
TURN_SECONDS = 1.0
LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3


def inspect_uploads(owner_id: UUID) -> bool:
    """Check the owner's new uploads for about a second; return whether some are left."""
    ends = time.monotonic() + TURN_SECONDS
    while file := leases.claim_first(_waiting(owner_id).order_by("id"), lease=LEASE):
        _inspect(file)
        if time.monotonic() >= ends:
            return _waiting(owner_id).exists()
    return False


def _waiting(owner_id: UUID) -> models.QuerySet[File]:
    rows: models.QuerySet[File] = File.objects.filter(leases.free(), owner=owner_id, state=FileState.UPLOADED)
    return rows


def has_waiting(owner_id: UUID) -> bool:
    """Return whether uploads of the owner are still to be checked, and nobody is at them."""
    return _waiting(owner_id).exists()


def _inspect(file: File) -> None:
    if file.attempts > MAX_ATTEMPTS:
        _refuse(file, "This file could not be opened safely.")
        return
    try:
        seen = _LOOKS[FileKind(file.kind)](file)
    except (OperationError, Invalid) as error:
        _refuse(file, error.message)
        return
    except OSError:
        # The storage does not answer: the lease runs out and another turn tries again.
        logger.exception("Could not read blob %s of file %s", file.blob_id, file.pk)
        return
    stored = {side: blobs.store(data, "image/webp") for side, data in seen.thumbnails.items()}
    with transaction.atomic():
        blobs.register(stored.values())
        shown = (NewThumbnail(file.blob_id, side, webp.sha256) for side, webp in stored.items())
        Thumbnail.objects.add_missing(shown)
        _finish(file, state=FileState.READY, width=seen.width, height=seen.height, facts=seen.facts)


@dataclass(frozen=True)
class _Seen:
    """What a worker found: upright size in pixels, WebP thumbnails by side, and what the content tells."""

    width: int | None = None
    height: int | None = None
    thumbnails: dict[int, bytes] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def _look_at_picture(file: File) -> _Seen:
    """Decode the picture once, and show it in the sizes that its kind needs. Raises PictureError."""
    data = blobs.read(file.blob_id)
    if not needs_rendition(file.content_type) and file.size <= LARGE_BYTES:
        small = engine.thumbnail(data, THUMBNAIL_SIDE)
        return _Seen(small.facts.width, small.facts.height, {THUMBNAIL_SIDE: small.data})
    large = engine.thumbnail(data, VIEW_SIDE)
    small = engine.thumbnail(large.data, THUMBNAIL_SIDE)
    made = {THUMBNAIL_SIDE: small.data, VIEW_SIDE: large.data}
    return _Seen(large.facts.width, large.facts.height, made)


def _look_at_video(file: File) -> _Seen:
    """Read the header and, where it can be decoded, the first key frame. Raises VideoError."""
    with _content(file) as content:
        facts, poster = read_video(content, file.content_type)
    sides = () if poster is None else (THUMBNAIL_SIDE, VIEW_SIDE)
    made = {side: encode_thumbnail(poster, side).data for side in sides if poster is not None}
    return _Seen(facts.width, facts.height, made, facts.as_json())


def _look_at_weights(file: File) -> _Seen:
    """Read the header. Nothing is loaded."""
    with _content(file) as content:
        return _Seen(facts=weights_facts(content))


_LOOKS = {
    FileKind.PICTURE: _look_at_picture,
    FileKind.VIDEO: _look_at_video,
    FileKind.WEIGHTS: _look_at_weights,
}


@contextmanager
def _content(file: File) -> Iterator[BinaryIO]:
    """Open a file's bytes, which need not fit into memory."""
    with default_storage.open(Blob(sha256=file.blob_id).path) as content:
        # The file behind Django's, whose every call would go through two more.
        yield cast(BinaryIO, content.file)


def _refuse(file: File, reason: str) -> None:
    _finish(file, state=FileState.REFUSED, reason=reason[:300])


def _finish(file: File, **changes: Any) -> None:
    """Record the outcome, unless the lease has passed to another worker or the file has got other bytes."""
    rows = File.objects.filter(pk=file.pk, state=FileState.UPLOADED, blob_id=file.blob_id)
    leases.release(rows, token=file.lease_token, updated_at=timezone.now(), **changes)


def owners_waiting(*, older_than: timedelta) -> list[str]:
    """Return the owners of uploads that nobody has begun to check for this long."""
    new = Q(lease_expires_at__isnull=True, created_at__lt=timezone.now() - older_than)
    rows = File.objects.filter(new | leases.expired(), state=FileState.UPLOADED).order_by("owner")
    return [str(owner) for (owner,) in rows.values_list("owner").distinct()]
