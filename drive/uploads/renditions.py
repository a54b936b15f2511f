"""Renditions: the reduced images that visitors of a view-only link see in place of the files themselves.

Workers make them. Most images get one at the upload only if browsers cannot show the file as it is, so a
view-only link has its worker make those that are missing.
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

# An image that ends its worker this often is shown as its thumbnail.
MAX_TRIES = 3
TRIES_SECONDS = 24 * 3600


def make_renditions(share_id: UUID) -> bool:
    """Make the renditions that a view-only link lacks, for about a second; return whether some are left."""
    share = Share.objects.open().filter(pk=share_id, can_download=False).first()
    if share is None:
        return False
    ends = time.monotonic() + TURN_SECONDS
    for blob_id in files_lacking(share).values_list("blob_id", flat=True)[:1000]:
        try:
            _make(blob_id)
        except OSError:
            # The storage does not answer. The next visit asks again.
            logger.exception("Could not make the rendition of blob %s", blob_id)
            return False
        if time.monotonic() >= ends:
            return files_lacking(share).exists()
    return False


def files_lacking(share: Share) -> models.QuerySet[File]:
    """Return the images behind a link that are larger than their thumbnail and have no rendition."""
    rows = File.objects.visible_to(share.owner_id).live()
    if share.file_id is not None:
        rows = rows.filter(pk=share.file_id)
    else:
        roots = [share.folder_id] if share.folder_id else []
        rows = rows.filter(folder__in=Tree.of(share.owner_id).inside(roots))
    return _lacking(rows).order_by("id")


def lacks(file: File) -> bool:
    """Tell whether an image has yet to get its rendition."""
    return _lacking(File.objects.filter(pk=file.pk)).exists()


def _lacking(rows: models.QuerySet[File]) -> models.QuerySet[File]:
    larger = Q(width__gt=THUMBNAIL_SIDE) | Q(height__gt=THUMBNAIL_SIDE)
    made = Thumbnail.objects.filter(source=OuterRef("blob"), side=VIEW_SIDE)
    return rows.filter(larger, ~Exists(made), kind=FileKind.PICTURE, state=FileState.READY)


def _make(blob_id: str) -> None:
    """Make one rendition; where that fails, the thumbnail takes its place for good."""
    if _is_hopeless(blob_id):
        _keep_thumbnail(blob_id)
        return
    try:
        data = engine.thumbnail(blobs.read(blob_id), VIEW_SIDE).data
    except (OperationError, Invalid) as error:
        logger.info("Blob %s gets no rendition: %s", blob_id, error)
        _keep_thumbnail(blob_id)
        return
    stored = blobs.store(data, "image/webp")
    with transaction.atomic():
        blobs.register([stored])
        Thumbnail.objects.add_missing([NewThumbnail(blob_id, VIEW_SIDE, stored.sha256)])


def _is_hopeless(blob_id: str) -> bool:
    """Count a try before it is made, and tell whether there have been too many: each may have killed us."""
    key = f"rendition:tries:{blob_id}"
    cache.add(key, 0, TRIES_SECONDS)
    return cache.incr(key) > MAX_TRIES


def _keep_thumbnail(blob_id: str) -> None:
    small = Thumbnail.objects.filter(source=blob_id, side=THUMBNAIL_SIDE).first()
    if small is not None:
        Thumbnail.objects.add_missing([NewThumbnail(blob_id, VIEW_SIDE, small.blob_id)])
