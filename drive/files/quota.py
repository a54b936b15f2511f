"""Drive quota: used bytes, allowed bytes and limits on files, folders and uploads. Trash counts too."""

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

# Upload rows of one account, mostly finished: more than one a second for as long as they are usage.
MOST_KEPT_UPLOADS = 300_000


@dataclass(frozen=True)
class Usage:
    """Used and allowed bytes of a drive."""

    used: int
    quota: int

    @property
    def left(self) -> int:
        return max(0, self.quota - self.used)

    @property
    def share(self) -> float:
        """Fraction of the quota that is used, 0 to 1."""
        return min(1.0, self.used / self.quota) if self.quota else 1.0


def used_bytes(owner: User) -> int:
    """Return the bytes of all files of the owner; a copy counts like any other file."""
    return DriveUsage.objects.filter(pk=owner.pk).values_list("used_bytes", flat=True).first() or 0


def quota_of(owner: User) -> int:
    """Return the owner's quota in bytes."""
    return settings.DRIVE_QUOTA_BYTES if owner.quota_bytes is None else owner.quota_bytes


def usage_of(owner: User) -> Usage:
    """Return used bytes and quota, in one query."""
    return Usage(used_bytes(owner), quota_of(owner))


def check_room(*, owner: User, size: int) -> None:
    """Check that `size` more bytes fit, before they are sent or stored.

    Raises:
        TooLarge: the drive has less room left.
    """
    _check(usage_of(owner), size)


def claim_room(*, owner: User, size: int) -> None:
    """Check as `check_room`, and lock the owner's usage until the transaction ends.

    Lock order everywhere: blobs, folder, usage, new files.

    Raises:
        TooLarge: as `check_room`, or the drive has reached its maximum number of files.
    """
    usage = _locked(owner)
    _check(Usage(usage.used_bytes, quota_of(owner)), size)
    if usage.files >= settings.DRIVE_MAX_FILES:
        text = _("Your drive has reached the limit of %(n)s files. Empty the trash or delete files.")
        raise TooLarge(text % {"n": f"{settings.DRIVE_MAX_FILES:,}"}, code="too_many_files")


def check_upload(*, owner: User, size: int) -> None:
    """Check that an upload of `size` bytes fits in addition to the other unfinished uploads.

    Raises:
        TooLarge: the drive has less room left.
        Conflict: too many uploads are unfinished.
    """
    _check_upload(usage_of(owner), owner, size)


def claim_upload(*, owner: User, size: int) -> None:
    """Check as `check_upload`, and lock the owner's usage until the transaction ends.

    Call it in the transaction that inserts the upload.
    """
    usage = _locked(owner)
    _check_upload(Usage(usage.used_bytes, quota_of(owner)), owner, size)


def unfinished_uploads(owner: User) -> QuerySet[Upload]:
    """Return the owner's uploads that may still become files. Their announced bytes are reserved."""
    return Upload.objects.filter(
        owner=owner, completed_at__isnull=True, reason="", expires_at__gt=timezone.now()
    )


def check_kept_uploads(*, owner: User) -> None:
    """Limit the rows of finished uploads, for uploads that may add no file.

    Rows are usage for days, so that a client that missed the response can repeat its request.

    Raises:
        RateLimited: the account has too many uploads.
    """
    # Answered from an index; the time grows with the number of rows.
    if Upload.objects.filter(owner=owner).order_by()[MOST_KEPT_UPLOADS - 1 : MOST_KEPT_UPLOADS].exists():
        text = _("You have reached the limit of %(n)s uploads in three days. Try again later.")
        raise RateLimited(text % {"n": f"{MOST_KEPT_UPLOADS:,}"})


def check_folders(*, owner: User) -> None:
    """Check that the drive, trash included, may have another folder.

    Raises:
        Invalid: the drive has reached its maximum number of folders.
    """
    most = settings.DRIVE_MAX_FOLDERS
    # Is there a last allowed folder? Answered from an index; the time grows with the number of folders.
    if Folder.objects.filter(owner=owner).order_by()[most - 1 : most].exists():
        text = _("Your drive has reached the limit of %(n)s folders. Empty the trash or delete folders.")
        raise Invalid(text % {"n": f"{most:,}"}, code="too_many_folders")


def _check_upload(usage: Usage, owner: User, size: int) -> None:
    _check(usage, size)
    found = unfinished_uploads(owner).aggregate(bytes=Coalesce(Sum("length"), 0), number=Count("pk"))
    most = settings.UNFINISHED_UPLOADS_MAX
    if found["number"] >= most:
        text = _(
            "You have reached the limit of %(n)d unfinished uploads. Finish or delete some of them first."
        )
        raise Conflict(text % {"n": most}, code="too_many_uploads")
    if found["bytes"] + size > usage.left:
        raise no_room_beside_uploads()


def no_room_beside_uploads() -> TooLarge:
    """Return the error for room that is reserved by other unfinished uploads."""
    text = _(
        "Other unfinished uploads need the space that is left in your drive. Finish or delete them first."
    )
    return TooLarge(text, code="quota_exceeded")


def _locked(owner: User) -> DriveUsage:
    """Return the owner's usage, locked until the transaction ends."""
    rows = DriveUsage.objects.select_for_update(no_key=True).filter(pk=owner.pk)
    usage = rows.first()
    if usage is None:
        DriveUsage.objects.bulk_create([DriveUsage(owner=owner)], ignore_conflicts=True)
        usage = rows.get()
    return usage


def _check(usage: Usage, size: int) -> None:
    if size <= usage.left:
        return
    numbers = {"left": filesizeformat(usage.left), "size": filesizeformat(size)}
    text = _("Your drive has %(left)s left, but this file has %(size)s. Empty the trash or delete files.")
    raise TooLarge(text % numbers, code="quota_exceeded")


def verify_usage() -> int:
    """Recount the files of all drives; log and correct wrong usage. Return the number of corrected drives.

    One statement reads files and usage from the same snapshot, so it finds only true differences.
    """
    counted = User.objects.annotate(
        bytes=Coalesce(Sum("files__size"), 0),
        number=Count("files"),
        recorded_bytes=Coalesce(F("drive_usage__used_bytes"), 0),
        recorded_number=Coalesce(F("drive_usage__files"), 0),
    )
    wrong = counted.exclude(Q(bytes=F("recorded_bytes")) & Q(number=F("recorded_number")))
    owners = list(wrong.order_by("pk").values_list("pk", flat=True))
    for owner_id in owners:
        _recount(owner_id)
    return len(owners)


@transaction.atomic
def _recount(owner_id: UUID) -> None:
    DriveUsage.objects.bulk_create([DriveUsage(owner_id=owner_id)], ignore_conflicts=True)
    # Transactions that add or delete files hold this row's lock, so the count is exact.
    usage = DriveUsage.objects.select_for_update(no_key=True).get(pk=owner_id)
    found = File.objects.filter(owner=owner_id).aggregate(bytes=Coalesce(Sum("size"), 0), number=Count("pk"))
    logger.error(
        "Corrected the usage of drive %s: recorded %s bytes in %s files, counted %s bytes in %s files",
        owner_id, usage.used_bytes, usage.files, found["bytes"], found["number"],
    )  # fmt: skip
    DriveUsage.objects.filter(pk=owner_id).update(used_bytes=found["bytes"], files=found["number"])
