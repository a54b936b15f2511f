"""What a worker does with a new upload: decode all of it under limits, make its thumbnail, say so."""

import logging
import time
from datetime import timedelta
from uuid import UUID

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from drive import blobs
from drive.kinds import needs_rendition
from drive.models import File, FileState, Thumbnail
from workers import engine
from workers.reading import Facts, PictureError

logger = logging.getLogger(__name__)

THUMBNAIL_SIDE = 256
# For pictures that browsers cannot show by themselves, or visitors not as they are: what is displayed.
VIEW_SIDE = 1024
# A turn ends after this many seconds, so that one owner's thousand uploads do not hold up another's one.
TURN_SECONDS = 1.0
LEASE = timedelta(seconds=60)
MAX_INSPECTIONS = 3


def inspect_uploads(owner_id: UUID) -> bool:
    """Check the owner's new uploads for about a second; return whether some are left."""
    ends = time.monotonic() + TURN_SECONDS
    while file := _claim(owner_id):
        _inspect(file)
        if time.monotonic() >= ends:
            return _waiting(owner_id).exists()
    return False


def _waiting(owner_id: UUID) -> models.QuerySet[File]:
    free = Q(inspect_until__isnull=True) | Q(inspect_until__lt=timezone.now())
    rows: models.QuerySet[File] = File.objects.filter(free, owner=owner_id, state=FileState.UPLOADED)
    return rows


def _claim(owner_id: UUID) -> File | None:
    with transaction.atomic():
        file = _waiting(owner_id).select_for_update(skip_locked=True).order_by("id").first()
        if file is None:
            return None
        file.inspect_until = timezone.now() + LEASE
        file.inspections += 1
        file.save(update_fields=["inspect_until", "inspections"])
    return file


def _inspect(file: File) -> None:
    if file.inspections > MAX_INSPECTIONS:
        _refuse(file, "This picture could not be opened safely.")
        return
    try:
        facts, made = _thumbnails(file)
    except PictureError as error:
        _refuse(file, error.message)
        return
    except OSError:
        # The storage does not answer: the lease runs out and another turn tries again.
        logger.exception("Could not read blob %s of file %s", file.blob_id, file.pk)
        return
    stored = {side: blobs.store(data, "image/webp") for side, data in made.items()}
    with transaction.atomic():
        blobs.register(stored.values())
        Thumbnail.objects.bulk_create(
            [
                Thumbnail(source_id=file.blob_id, side=side, blob_id=webp.sha256)
                for side, webp in stored.items()
            ],
            ignore_conflicts=True,
        )
        _finish(file, state=FileState.READY, width=facts.width, height=facts.height)


def _thumbnails(file: File) -> tuple[Facts, dict[int, bytes]]:
    """Decode the picture once, and show it in the sizes that its kind needs. Raises PictureError."""
    data = blobs.read(file.blob_id)
    if not needs_rendition(file.content_type):
        small = engine.thumbnail(data, THUMBNAIL_SIDE)
        return small.facts, {THUMBNAIL_SIDE: small.data}
    large = engine.thumbnail(data, VIEW_SIDE)
    small = engine.thumbnail(large.data, THUMBNAIL_SIDE)
    return large.facts, {THUMBNAIL_SIDE: small.data, VIEW_SIDE: large.data}


def _refuse(file: File, reason: str) -> None:
    _finish(file, state=FileState.REFUSED, reason=reason[:300])


def _finish(file: File, **changes: object) -> None:
    """Record the outcome unless another worker, to whom the lease had passed, did so first, or the file has
    been given other bytes meanwhile."""
    File.objects.filter(pk=file.pk, state=FileState.UPLOADED, blob_id=file.blob_id).update(
        inspect_until=None, updated_at=timezone.now(), **changes
    )


def owners_waiting(*, older_than: timedelta) -> list[str]:
    """Return the owners of uploads that nobody has begun to check for this long."""
    now = timezone.now()
    silent = Q(inspect_until__isnull=True, created_at__lt=now - older_than) | Q(inspect_until__lt=now)
    rows = File.objects.filter(silent, state=FileState.UPLOADED).order_by("owner").values_list("owner")
    return [str(owner) for (owner,) in rows.distinct()]
