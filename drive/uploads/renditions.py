"""Renditions: reduced images that visitors of a view-only link see instead of the files.

Uploads create them only for images that are large or that browsers cannot show. For a view-only link, a
worker creates the missing ones.
"""

import logging
import time
from uuid import UUID

from django.core.cache import cache
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q

from drive.files.tree import Tree
from drive.models import File, FileKind, FileState, NewThumbnail, Share, Thumbnail
from drive.storage import blobs
from drive.uploads.work import TURN_SECONDS
from ipau.common.errors import Invalid
from workers import engine
from workers.plugin import OperationError
from workers.thumbnail_sizes import THUMBNAIL_SIDE, VIEW_SIDE

logger = logging.getLogger(__name__)

# After this many attempts the thumbnail replaces the rendition.
MAX_TRIES = 3
TRIES_SECONDS = 24 * 3600


def make_renditions(share_id: UUID) -> bool:
    """Create missing renditions of a view-only link for about a second; return whether some are left."""
    share = Share.objects.open().filter(pk=share_id, can_download=False).first()
    if share is None:
        return False
    end = time.monotonic() + TURN_SECONDS
    for blob_id in files_without_rendition(share).values_list("blob_id", flat=True)[:1000]:
        try:
            _make(blob_id)
        except OSError:
            # The storage does not answer. The next visit retries.
            logger.exception("Could not create the rendition of blob %s", blob_id)
            return False
        if time.monotonic() >= end:
            return files_without_rendition(share).exists()
    return False


def files_without_rendition(share: Share) -> models.QuerySet[File]:
    """Return the images of a link that are larger than their thumbnail and have no rendition."""
    rows = File.objects.visible_to(share.owner_id).live()
    if share.file_id is not None:
        rows = rows.filter(pk=share.file_id)
    else:
        roots = [share.folder_id] if share.folder_id else []
        rows = rows.filter(folder__in=Tree.of(share.owner_id).descendants(roots))
    return _without_rendition(rows).order_by("id")


def is_missing(file: File) -> bool:
    """Return whether an image is missing its rendition."""
    return _without_rendition(File.objects.filter(pk=file.pk)).exists()


def _without_rendition(rows: models.QuerySet[File]) -> models.QuerySet[File]:
    larger = Q(width__gt=THUMBNAIL_SIDE) | Q(height__gt=THUMBNAIL_SIDE)
    rendition = Thumbnail.objects.filter(source=OuterRef("blob"), side=VIEW_SIDE)
    return rows.filter(larger, ~Exists(rendition), kind=FileKind.PICTURE, state=FileState.READY)


def _make(blob_id: str) -> None:
    """Create one rendition; if that fails, the thumbnail replaces it permanently."""
    if _has_failed_too_often(blob_id):
        _use_thumbnail(blob_id)
        return
    try:
        data = engine.thumbnail(blobs.read(blob_id), VIEW_SIDE).data
    except (OperationError, Invalid) as error:
        logger.info("No rendition of blob %s, using its thumbnail: %s", blob_id, error)
        _use_thumbnail(blob_id)
        return
    stored = blobs.store(data, "image/webp")
    with transaction.atomic():
        blobs.register([stored])
        Thumbnail.objects.add_missing([NewThumbnail(blob_id, VIEW_SIDE, stored.sha256)])


def _has_failed_too_often(blob_id: str) -> bool:
    """Count an attempt before it starts, as it may kill the worker; return whether there were too many."""
    key = f"rendition:tries:{blob_id}"
    cache.add(key, 0, TRIES_SECONDS)
    return cache.incr(key) > MAX_TRIES


def _use_thumbnail(blob_id: str) -> None:
    small = Thumbnail.objects.filter(source=blob_id, side=THUMBNAIL_SIDE).first()
    if small is not None:
        Thumbnail.objects.add_missing([NewThumbnail(blob_id, VIEW_SIDE, small.blob_id)])
