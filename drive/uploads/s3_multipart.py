"""Uploads whose parts browsers send into the bucket by themselves: under which name, how long, and given up.

As long as it is not checked, an upload lies under a name of its own, away from the bytes of the drive.
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
    # Loads boto3, which a site with a folder does without.
    from drive.storage.s3 import BucketStorage, Leftover, Part

logger = logging.getLogger(__name__)

PREFIX = "incoming/"
MB = 2**20
# A smaller file goes by way of the site, in fewer requests.
LEAST_BYTES = 16 * MB
# S3 takes 10,000 parts of at least 5 MiB each.
PART_BYTES = 8 * MB
MOST_PARTS = 10_000
# What no upload under way refers to may belong to one that is just being begun.
GRACE = timedelta(days=1)


def has_bucket() -> bool:
    """Tell whether this site keeps its bytes in a bucket."""
    return hasattr(default_storage, "querystring_auth")


def is_offered() -> bool:
    """Tell whether browsers may send large files into the bucket by themselves."""
    return bool(settings.S3_DIRECT) and has_bucket()


def bucket() -> "BucketStorage":
    """Return the bucket. Raises OSError where there is none (any more)."""
    if not has_bucket():
        raise OSError("This site has no bucket.")
    return cast("BucketStorage", default_storage)


def name_of(upload: Upload) -> str:
    """Return the name under which an upload's bytes lie until they are checked."""
    return f"{PREFIX}{upload.owner_id}/{upload.pk}"


def part_size_for(length: int) -> int:
    """Return into parts of how many bytes a file of `length` bytes is cut: whole MiB, few enough for S3."""
    return max(PART_BYTES, math.ceil(length / MOST_PARTS / MB) * MB)


def sizes_of(upload: Upload) -> dict[int, int]:
    """Return the length in bytes of each part, by its number from 1 on."""
    whole, rest = divmod(upload.length, upload.part_size)
    sizes = dict.fromkeys(range(1, whole + 1), upload.part_size)
    if rest:
        sizes[whole + 1] = rest
    return sizes


def arrived(upload: Upload) -> "list[Part]":
    """Return the parts that are in the bucket and as long as they shall be.

    Raises:
        FileNotFoundError: the bucket knows nothing of this upload, or has made an object of it.
    """
    sizes = sizes_of(upload)
    found = bucket().list_parts(name_of(upload), upload.multipart_id)
    return [part for part in found if sizes.get(part.number) == part.size]


def discard(upload: Upload) -> None:
    """Delete what the bucket has of an upload whose row is gone or has ended.

    A bucket that does not answer keeps it a while longer: `sweep_bucket` comes back to it.
    """
    if not upload.multipart_id or not has_bucket():
        return
    try:
        _delete(name_of(upload), upload.multipart_id)
    except OSError:
        logger.exception("Could not delete what is left of upload %s", upload.pk)


def _delete(name: str, multipart_id: str) -> None:
    if multipart_id:
        try:
            bucket().abort_parts(name, multipart_id)
        except FileNotFoundError:
            # It has become an object, or is gone.
            logger.debug("No upload in parts of %s", name)
    bucket().delete(name)


def sweep_bucket() -> int:
    """Delete what crashes have left in the bucket and no upload under way refers to; return how many."""
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
            logger.warning("A foreign object in the bucket: %s", leftover.name)
    rows = Upload.objects.filter(open_uploads(), pk__in=keys)
    return {name_of(upload) for upload in rows}


def open_uploads() -> Q:
    """Which uploads in parts still need what they have in the bucket."""
    return ~Q(multipart_id="") & Q(completed_at__isnull=True, reason="")
