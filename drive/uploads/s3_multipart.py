"""S3 multipart uploads by browsers: object names, part sizes, received parts, deletion and sweep.

Until it is checked, an upload has a name under `PREFIX`, apart from the drive's blobs.
"""

import logging
import math
from datetime import timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

from django.conf import settings
from django.core.files.storage import default_storage
from django.db.models import Q
from django.utils import timezone

from drive.models import Upload

if TYPE_CHECKING:
    # Imports boto3, which a site without a bucket does not need.
    from drive.storage.s3 import BucketStorage, Leftover, Part

logger = logging.getLogger(__name__)

PREFIX = "incoming/"
MB = 2**20
# A smaller file is sent to the site, in fewer requests.
LEAST_BYTES = 16 * MB
# S3 allows 10,000 parts of at least 5 MiB each.
PART_BYTES = 8 * MB
MOST_PARTS = 10_000
# Younger objects may belong to an upload that is just beginning.
GRACE = timedelta(days=1)


def has_bucket() -> bool:
    """Return whether this site stores its blobs in a bucket."""
    return hasattr(default_storage, "querystring_auth")


def is_offered() -> bool:
    """Return whether browsers can upload large files directly to the bucket."""
    return bool(settings.S3_DIRECT) and has_bucket()


def bucket() -> "BucketStorage":
    """Return the bucket. Raises OSError if the site has none (any more)."""
    if not has_bucket():
        raise OSError("This site has no bucket.")
    return cast("BucketStorage", default_storage)


def name_of(upload: Upload) -> str:
    """Return the object name of an upload until it is checked."""
    return f"{PREFIX}{upload.owner_id}/{upload.pk}"


def part_size_for(length: int) -> int:
    """Return the part size in bytes for a file of `length` bytes: whole MiB, within the limit on parts."""
    return max(PART_BYTES, math.ceil(length / MOST_PARTS / MB) * MB)


def sizes_of(upload: Upload) -> dict[int, int]:
    """Return the size in bytes of each part, by its number from 1."""
    whole, rest = divmod(upload.length, upload.part_size)
    sizes = dict.fromkeys(range(1, whole + 1), upload.part_size)
    if rest:
        sizes[whole + 1] = rest
    return sizes


def arrived(upload: Upload) -> "list[Part]":
    """Return the parts in the bucket that have the expected size.

    Raises:
        FileNotFoundError: the multipart upload is unknown or already assembled into an object.
    """
    sizes = sizes_of(upload)
    found = bucket().list_parts(name_of(upload), upload.multipart_id)
    return [part for part in found if sizes.get(part.number) == part.size]


def discard(upload: Upload) -> None:
    """Delete the parts or object of an upload that is deleted or finished.

    If the bucket does not answer, `sweep_bucket` deletes them later.
    """
    if not upload.multipart_id or not has_bucket():
        return
    try:
        _delete(name_of(upload), upload.multipart_id)
    except OSError:
        logger.exception("Could not delete upload %s from the bucket; the sweep retries", upload.pk)


def _delete(name: str, multipart_id: str) -> None:
    if multipart_id:
        try:
            bucket().abort_parts(name, multipart_id)
        except FileNotFoundError:
            # It is already assembled, or deleted.
            logger.debug("No multipart upload of %s", name)
    bucket().delete(name)


def sweep_bucket() -> int:
    """Delete old parts and objects without an unfinished upload; return the number deleted."""
    if not has_bucket():
        return 0
    old = timezone.now() - GRACE
    found = [*bucket().unfinished(PREFIX), *bucket().objects(PREFIX)]
    left = [leftover for leftover in found if leftover.since < old]
    under_way = _under_way(left)
    strays = [leftover for leftover in left if leftover.name not in under_way]
    for stray in strays:
        _delete(stray.name, stray.multipart_id)
    return len(strays)


def _under_way(left: "list[Leftover]") -> set[str]:
    keys = []
    for leftover in left:
        try:
            keys.append(UUID(leftover.name.rsplit("/", 1)[-1]))
        except ValueError:
            logger.warning("Unknown object in the bucket: %s", leftover.name)
    rows = Upload.objects.filter(open_uploads(), pk__in=keys)
    return {name_of(upload) for upload in rows}


def open_uploads() -> Q:
    """Return the filter for multipart uploads that are neither finished nor refused."""
    return ~Q(multipart_id="") & Q(completed_at__isnull=True, reason="")
