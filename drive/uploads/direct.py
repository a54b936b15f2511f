"""Direct uploads: the browser sends parts of large files to the bucket, with presigned URLs.

Limits are checked before the first byte. When all parts have arrived, a worker reads and checks them
(`drive.uploads.direct_work`).
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from uuid import UUID, uuid5

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files import quota
from drive.files.paths import UploadPath, folder_at
from drive.models import Folder, OnConflict, Upload
from drive.uploads import resumable, rules, s3_multipart, tasks
from ipau.common.errors import Conflict, Invalid, NotFound, TooLarge

T = TypeVar("T")
logger = logging.getLogger(__name__)

# Presigned URLs are used soon: the client requests a few parts at a time.
SIGNED_SECONDS = 600
MOST_SIGNED = 16


class Stage(StrEnum):
    """Stage of a direct upload."""

    RECEIVING = "receiving"
    CHECKING = "checking"
    FINISHED = "finished"
    REFUSED = "refused"


@dataclass(frozen=True)
class SignedPart:
    """Presigned URL to PUT a part of `size` bytes."""

    number: int
    size: int
    url: str


def stage_of(upload: Upload) -> Stage:
    """Return the stage of an upload."""
    if upload.completed_at is not None:
        return Stage.FINISHED
    if upload.reason:
        return Stage.REFUSED
    return Stage.RECEIVING if upload.sent_at is None else Stage.CHECKING


def get_direct(*, owner: User, upload_id: UUID) -> Upload:
    """Return an unexpired direct upload of `owner`. Raises NotFound."""
    rows = Upload.objects.filter(owner=owner, pk=upload_id, expires_at__gt=timezone.now())
    upload = rows.exclude(multipart_id="").first()
    if upload is None:
        raise rules.upload_gone()
    return upload


def begin_direct(
    *, owner: User, folder: Folder | None, place: UploadPath, length: int, on_conflict: OnConflict, key: str
) -> Upload:
    """Begin a direct upload and reserve `length` bytes, before any byte is sent.

    Args:
        folder: destination; None: the top of the drive.
        place: the name, and folders to create below `folder`.
        key: idempotency key; a repeated request returns the upload that the first one began.

    Raises:
        NotFound: this site does not offer direct uploads.
        TooLarge: over the limit of one upload, or no room in the drive.
        Invalid: `length` is 0.
        Conflict: the key was used for another upload, or too many uploads are unfinished.
        Unavailable: the bucket does not answer.
    """
    if not s3_multipart.is_offered():
        raise NotFound(_("This site does not offer direct uploads. Use resumable uploads."))
    values = {
        "owner": owner,
        "folder": folder,
        "name": place.name,
        "relative_path": place.path,
        "length": length,
        "on_conflict": on_conflict,
    }
    rules.check_length(length)
    upload = Upload(
        **values, pk=uuid5(owner.pk, f"direct:{key}"), part_size=s3_multipart.part_size_for(length)
    )
    if earlier := Upload.objects.filter(pk=upload.pk).first():
        return rules.same_request(earlier, values)
    quota.check_upload(owner=owner, size=length)
    upload.expires_at = timezone.now() + rules.LIFE
    if on_conflict == OnConflict.SKIP and (existing := rules.file_at(upload)):
        upload.offset, upload.completed_at, upload.file = length, timezone.now(), existing
        resumable.insert_upload(upload)
        return upload
    upload.multipart_id = _call_bucket(
        lambda: s3_multipart.bucket().begin_parts(s3_multipart.name_of(upload))
    )
    try:
        # Check the room again, under the lock of the owner's usage.
        resumable.insert_upload(upload)
    except IntegrityError:
        # The same request came twice at the same time. The sweep deletes its multipart upload.
        return rules.same_request(Upload.objects.get(pk=upload.pk), values)
    except (TooLarge, Conflict):
        s3_multipart.discard(upload)
        raise
    return upload


def received(upload: Upload) -> list[int]:
    """Return the numbers of the parts that have arrived completely.

    Raises:
        NotFound: the bucket has lost the upload. Its row is deleted.
        Conflict: the upload no longer accepts parts.
        Unavailable: the bucket does not answer.
    """
    try:
        return [part.number for part in _call_bucket(lambda: s3_multipart.arrived(upload))]
    except FileNotFoundError as error:
        if not _receiving(upload).delete()[0]:
            raise _ended() from error
        raise rules.upload_gone() from error


def sign_parts(*, upload: Upload, numbers: Iterable[int]) -> list[SignedPart]:
    """Return presigned URLs for parts, and extend the upload's lifetime.

    Raises:
        Invalid: the part numbers are invalid or too many.
        Conflict: the upload no longer accepts parts.
    """
    sizes, wanted = s3_multipart.sizes_of(upload), sorted(set(numbers))
    if not wanted or len(wanted) > MOST_SIGNED or not sizes.keys() >= set(wanted):
        raise Invalid(_("Request 1 to %(most)d existing parts of this upload.") % {"most": MOST_SIGNED})
    now = timezone.now()
    updated = _receiving(upload).update(expires_at=now + rules.LIFE, updated_at=now)
    if not updated:
        raise _ended()
    name, bucket = s3_multipart.name_of(upload), s3_multipart.bucket()
    return [
        SignedPart(
            number,
            sizes[number],
            bucket.presign_part(
                name, upload.multipart_id, number, size=sizes[number], seconds=SIGNED_SECONDS
            ),
        )
        for number in wanted
    ]


def finish_upload(*, upload: Upload) -> Upload:
    """Check that all parts have arrived, and send a worker task that checks their content.

    Raises:
        Conflict: parts are missing.
        NotFound: the folder has been trashed, or the bucket has lost the upload.
        Unavailable: the bucket does not answer.
    """
    if stage_of(upload) != Stage.RECEIVING:
        return upload
    if len(received(upload)) < len(s3_multipart.sizes_of(upload)):
        raise Conflict(
            _("Some parts of this upload are missing. Send them, then finish again."), code="parts_missing"
        )
    # Create folders now, so that the client gets their errors.
    folder = folder_at(owner=upload.owner, folder=upload.folder, names=rules.folder_names_of(upload))
    with transaction.atomic():
        now = timezone.now()
        _receiving(upload).update(
            folder=folder, relative_path="", sent_at=now, expires_at=now + rules.LIFE, updated_at=now
        )
        transaction.on_commit(lambda: tasks.send_check(upload_id=str(upload.pk)))
    upload.refresh_from_db()
    return upload


def _receiving(upload: Upload) -> QuerySet[Upload]:
    return Upload.objects.filter(s3_multipart.open_uploads(), pk=upload.pk, sent_at__isnull=True)


def _call_bucket(call: Callable[[], T]) -> T:
    """Turn errors of the bucket into `Unavailable`, except FileNotFoundError."""
    try:
        return call()
    except FileNotFoundError:
        raise
    except OSError as error:
        logger.warning("The bucket failed, so an upload has to wait: %s", error)
        raise rules.cannot_store("storage_down") from error


def _ended() -> Conflict:
    return Conflict(_("This upload no longer accepts parts."), code="upload_ended")
