"""Large files that a browser sends into the bucket by itself, in parts to addresses that are signed here.

Everything that can be refused is refused before the first byte. What arrived is believed by nobody: when all
parts are there, a worker reads them (`drive.uploads.direct_work`).
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

# An address is used soon: parts are asked for a few at a time.
SIGNED_SECONDS = 600
MOST_SIGNED = 16


class Stage(StrEnum):
    """Where an upload is on its way."""

    RECEIVING = "receiving"
    CHECKING = "checking"
    FINISHED = "finished"
    REFUSED = "refused"


@dataclass(frozen=True)
class SignedPart:
    """Where a browser PUTs a part of `size` bytes."""

    number: int
    size: int
    url: str


def stage_of(upload: Upload) -> Stage:
    """Return where an upload is on its way."""
    if upload.completed_at is not None:
        return Stage.FINISHED
    if upload.reason:
        return Stage.REFUSED
    return Stage.RECEIVING if upload.sent_at is None else Stage.CHECKING


def get_direct(*, owner: User, upload_id: UUID) -> Upload:
    """Return an upload of `owner` whose time is not over. Raises NotFound."""
    rows = Upload.objects.filter(owner=owner, pk=upload_id, expires_at__gt=timezone.now())
    upload = rows.exclude(multipart_id="").first()
    if upload is None:
        raise rules.upload_gone()
    return upload


def begin_direct(
    *, owner: User, folder: Folder | None, place: UploadPath, length: int, on_conflict: OnConflict, key: str
) -> Upload:
    """Make room in the bucket for an upload of `length` bytes; refuse it before they are sent.

    Args:
        folder: where it goes; None is the top of the drive.
        place: the name, and the folders to be made below `folder`.
        key: names this request, so that a repeated one returns what the first one began.

    Raises:
        NotFound: this site takes no uploads this way.
        TooLarge: more than one upload may have, or than the drive has room for.
        Invalid: there is nothing in it.
        Conflict: the key was used for another upload, or too many uploads are unfinished.
        Unavailable: the bucket does not answer.
    """
    if not s3_multipart.is_offered():
        raise NotFound(_("This site takes no uploads this way."))
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
    if on_conflict == OnConflict.SKIP and (there := rules.file_at(upload)):
        upload.offset, upload.completed_at, upload.file = length, timezone.now(), there
        resumable.insert_upload(upload)
        return upload
    upload.multipart_id = _ask(lambda: s3_multipart.bucket().begin_parts(s3_multipart.name_of(upload)))
    try:
        # Once more where no other upload of this drive can be promised the same room.
        resumable.insert_upload(upload)
    except IntegrityError:
        # The same request, twice at once. What it began in the bucket is swept.
        return rules.same_request(Upload.objects.get(pk=upload.pk), values)
    except (TooLarge, Conflict):
        s3_multipart.discard(upload)
        raise
    return upload


def received(upload: Upload) -> list[int]:
    """Return the numbers of the parts that have arrived whole.

    Raises:
        NotFound: the bucket has lost the upload, which is gone then.
        Conflict: all parts had been sent.
        Unavailable: the bucket does not answer.
    """
    try:
        return [part.number for part in _ask(lambda: s3_multipart.arrived(upload))]
    except FileNotFoundError as error:
        if not _receiving(upload).delete()[0]:
            raise _ended() from error
        raise rules.upload_gone() from error


def sign_parts(*, upload: Upload, numbers: Iterable[int]) -> list[SignedPart]:
    """Return addresses for some parts, and give the upload more time.

    Raises:
        Invalid: there are no such parts, or too many were asked for.
        Conflict: all parts have been sent.
    """
    sizes, wanted = s3_multipart.sizes_of(upload), sorted(set(numbers))
    if not wanted or len(wanted) > MOST_SIGNED or not sizes.keys() >= set(wanted):
        raise Invalid(_("Ask for 1 to %(most)d parts of this upload.") % {"most": MOST_SIGNED})
    now = timezone.now()
    kept = _receiving(upload).update(expires_at=now + rules.LIFE, updated_at=now)
    if not kept:
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
    """Take the sender's word that all parts are there, having looked; a worker then checks them.

    Raises:
        Conflict: parts are missing.
        NotFound: the folder has been trashed, or the bucket has lost the upload.
        Unavailable: the bucket does not answer.
    """
    if stage_of(upload) != Stage.RECEIVING:
        return upload
    if len(received(upload)) < len(s3_multipart.sizes_of(upload)):
        raise Conflict(_("Some parts of this upload are missing."), code="parts_missing")
    # The folders now, while somebody is there who can be told what is wrong with them.
    folder = folder_at(owner=upload.owner, folder=upload.folder, names=rules.ways_of(upload))
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


def _ask(call: Callable[[], T]) -> T:
    """Say in a sentence that the bucket does not answer. What it does not know is left to the caller."""
    try:
        return call()
    except FileNotFoundError:
        raise
    except OSError as error:
        logger.warning("An upload has to wait: %s", error)
        raise rules.cannot_store("storage_down") from error


def _ended() -> Conflict:
    return Conflict(_("This upload takes no more parts."), code="upload_ended")
