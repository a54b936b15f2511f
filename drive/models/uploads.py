"""Resumable uploads in progress."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from drive.models.files import File, Folder
from ipau.common.leases import LeasedWithAttempts, is_whole
from ipau.common.models import BaseModel


class OnConflict(models.TextChoices):
    """What an upload does if its name is taken."""

    KEEP_BOTH = "keep_both", _("Keep both")
    REPLACE = "replace", _("Replace")
    SKIP = "skip", _("Skip")


class Upload(BaseModel, LeasedWithAttempts):
    """A resumable upload in progress. Its bytes are in a part file until it is complete.

    A worker that checks parts in a bucket holds the lease.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="uploads")
    folder = models.ForeignKey(Folder, models.CASCADE, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=255)
    # Folders to create below `folder`, from a dropped folder tree: "holiday/day 1".
    relative_path = models.CharField(max_length=2000, blank=True)
    on_conflict = models.CharField(max_length=10, choices=OnConflict.choices, default=OnConflict.KEEP_BOTH)
    length = models.BigIntegerField()
    offset = models.BigIntegerField(default=0)
    metadata = models.JSONField(default=dict, blank=True)
    expires_at = models.DateTimeField()
    # S3 multipart upload to which the browser sends parts directly. All parts but the last have `part_size`
    # bytes.
    multipart_id = models.CharField(max_length=1024, blank=True)
    part_size = models.BigIntegerField(default=0)
    # When the last part arrived.
    sent_at = models.DateTimeField(null=True, blank=True)
    # Why the worker refused the upload.
    reason = models.CharField(max_length=300, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    file = models.ForeignKey(File, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(offset__gte=0, offset__lte=models.F("length")),
                name="upload_offset_within_length",
            ),
            models.CheckConstraint(
                condition=models.Q(multipart_id="") | models.Q(part_size__gt=0), name="upload_has_parts"
            ),
            models.CheckConstraint(
                condition=models.Q(sent_at__isnull=True) | ~models.Q(multipart_id=""),
                name="upload_sent_in_parts",
            ),
            models.CheckConstraint(condition=is_whole(), name="upload_lease_is_whole"),
        ]
        indexes = [
            # For the sweep.
            models.Index(
                fields=["sent_at"],
                condition=models.Q(sent_at__isnull=False, completed_at__isnull=True, reason=""),
                name="upload_to_check",
            ),
            models.Index(fields=["owner", "-id"], name="upload_by_owner"),
            # Finished uploads are kept for days, and a dropped folder creates thousands.
            models.Index(
                fields=["owner", "-id"],
                condition=models.Q(completed_at__isnull=True),
                name="upload_under_way",
            ),
            models.Index(fields=["expires_at"], name="upload_expiry"),
        ]

    @property
    def percent(self) -> int | None:
        """Percent received; None if the browser sends the parts directly to a bucket."""
        return None if self.multipart_id or not self.length else 100 * self.offset // self.length

    def __str__(self) -> str:
        return self.name
