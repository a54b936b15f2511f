"""How much a person may keep in their drive, and how much they do. What is in the trash counts too."""

import logging
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.models import DriveUsage, File, Folder, Upload
from ipau.common.errors import Conflict, Invalid, RateLimited, TooLarge

logger = logging.getLogger(__name__)

# Rows of uploads, most of them finished: more than one a second for as long as they are kept.
MOST_KEPT_UPLOADS = 300_000


@dataclass(frozen=True)
class Usage:
    """Bytes that are used, of bytes that may be."""

    used: int
    quota: int

    @property
    def left(self) -> int:
        return max(0, self.quota - self.used)

    @property
    def share(self) -> float:
        """Used of allowed, 0 to 1."""
        return min(1.0, self.used / self.quota) if self.quota else 1.0


def used_bytes(owner: User) -> int:
    """Return the bytes of all of the owner's files; a copy counts like any other file."""
    return DriveUsage.objects.filter(pk=owner.pk).values_list("used_bytes", flat=True).first() or 0


def quota_of(owner: User) -> int:
    """Return how many bytes the owner may keep."""
    return settings.DRIVE_QUOTA_BYTES if owner.quota_bytes is None else owner.quota_bytes


def usage_of(owner: User) -> Usage:
    """Return what is used and what may be, in one query."""
    return Usage(used_bytes(owner), quota_of(owner))


def check_room(*, owner: User, size: int) -> None:
    """Refuse `size` more bytes where they do not fit, which spares everybody the sending and the storing.

    Raises:
        TooLarge: with how much is left and how much was sent.
    """
    _check(usage_of(owner), size)


def claim_room(*, owner: User, size: int) -> None:
    """As `check_room`; nobody else adds to the owner's files until the transaction ends.

    Locks come in one order everywhere: bytes, folder, this, new files.

    Raises:
        TooLarge: as `check_room`, or the drive has as many files as it may have.
    """
    kept = _locked(owner)
    _check(Usage(kept.used_bytes, quota_of(owner)), size)
    if kept.files >= settings.DRIVE_MAX_FILES:
        text = _("Your drive has %(n)s files, which is the most. Empty the trash or delete files.")
        raise TooLarge(text % {"n": f"{settings.DRIVE_MAX_FILES:,}"}, code="too_many_files")


def check_upload(*, owner: User, size: int) -> None:
    """Refuse to begin an upload of `size` bytes that finds no room beside the other unfinished uploads.

    Raises:
        TooLarge: with how much is left and how much was announced.
        Conflict: too many uploads are unfinished.
    """
    _check_upload(usage_of(owner), owner, size)


def claim_upload(*, owner: User, size: int) -> None:
    """As `check_upload`; no other upload is promised the same room until the transaction ends.

    Call it in the transaction that inserts the upload.
    """
    kept = _locked(owner)
    _check_upload(Usage(kept.used_bytes, quota_of(owner)), owner, size)


def unfinished_uploads(owner: User) -> QuerySet[Upload]:
    """Return the owner's uploads that may still become files. Their announced bytes take room."""
    return Upload.objects.filter(
        owner=owner, completed_at__isnull=True, reason="", expires_at__gt=timezone.now()
    )


def check_kept_uploads(*, owner: User) -> None:
    """Refuse an upload that adds no file, where a repeated one has left too many rows of finished uploads.

    They are kept for days, so that a sender who missed the answer can ask again.

    Raises:
        RateLimited: with the limit.
    """
    # An index answers, in a time that grows with the rows that there are.
    if Upload.objects.filter(owner=owner).order_by()[MOST_KEPT_UPLOADS - 1 : MOST_KEPT_UPLOADS].exists():
        text = _("You have begun %(n)s uploads in the last three days, which is the most. Try again later.")
        raise RateLimited(text % {"n": f"{MOST_KEPT_UPLOADS:,}"})


def check_folders(*, owner: User) -> None:
    """Refuse another folder where the drive, its trash included, has as many as it may have.

    Raises:
        Invalid: with the limit.
    """
    most = settings.DRIVE_MAX_FOLDERS
    # The last one that there may be: an index answers, in a time that grows with the folders there are.
    if Folder.objects.filter(owner=owner).order_by()[most - 1 : most].exists():
        text = _("Your drive has %(n)s folders, which is the most. Empty the trash or delete folders.")
        raise Invalid(text % {"n": f"{most:,}"}, code="too_many_folders")


def _check_upload(usage: Usage, owner: User, size: int) -> None:
    _check(usage, size)
    found = unfinished_uploads(owner).aggregate(bytes=Coalesce(Sum("length"), 0), number=Count("pk"))
    most = settings.UNFINISHED_UPLOADS_MAX
    if found["number"] >= most:
        text = _("You have %(n)d unfinished uploads, which is the most. Finish or delete some of them first.")
        raise Conflict(text % {"n": most}, code="too_many_uploads")
    if found["bytes"] + size > usage.left:
        raise no_room_beside_uploads()


def no_room_beside_uploads() -> TooLarge:
    """Say that room is left, but other uploads have been promised it."""
    text = _("Other uploads under way need the room that is left in your drive. Finish or delete them first.")
    return TooLarge(text, code="quota_exceeded")


def _locked(owner: User) -> DriveUsage:
    """Return what the owner keeps, in a row that nobody else changes until the transaction ends."""
    rows = DriveUsage.objects.select_for_update(no_key=True).filter(pk=owner.pk)
    kept = rows.first()
    if kept is None:
        DriveUsage.objects.bulk_create([DriveUsage(owner=owner)], ignore_conflicts=True)
        kept = rows.get()
    return kept


def _check(usage: Usage, size: int) -> None:
    if size <= usage.left:
        return
    numbers = {"left": filesizeformat(usage.left), "size": filesizeformat(size)}
    text = _("Your drive has %(left)s left and this file has %(size)s. Empty the trash or delete files.")
    raise TooLarge(text % numbers, code="quota_exceeded")


def verify_usage() -> int:
    """Count all files, set right what was kept wrongly and log it; return how many owners it concerned.

    One statement sees rows and sums of the same moment, so only what is truly wrong is found.
    """
    counted = User.objects.annotate(
        bytes=Coalesce(Sum("files__size"), 0),
        number=Count("files"),
        kept_bytes=Coalesce(F("drive_usage__used_bytes"), 0),
        kept_number=Coalesce(F("drive_usage__files"), 0),
    )
    wrong = counted.exclude(Q(bytes=F("kept_bytes")) & Q(number=F("kept_number")))
    owners = list(wrong.order_by("pk").values_list("pk", flat=True))
    for owner_id in owners:
        _recount(owner_id)
    return len(owners)


@transaction.atomic
def _recount(owner_id: UUID) -> None:
    DriveUsage.objects.bulk_create([DriveUsage(owner_id=owner_id)], ignore_conflicts=True)
    # Whoever adds or deletes files waits here or has been waited for: what is counted now is all there is.
    kept = DriveUsage.objects.select_for_update(no_key=True).get(pk=owner_id)
    found = File.objects.filter(owner=owner_id).aggregate(bytes=Coalesce(Sum("size"), 0), number=Count("pk"))
    logger.error(
        "Drive of %s: kept %s bytes in %s files, counted %s in %s",
        owner_id, kept.used_bytes, kept.files, found["bytes"], found["number"],
    )  # fmt: skip
    DriveUsage.objects.filter(pk=owner_id).update(used_bytes=found["bytes"], files=found["number"])
