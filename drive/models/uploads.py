"""Uploads that are under way."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from drive.models.files import File, Folder
from ipau.common.leases import LeasedWithAttempts, is_whole
from ipau.common.models import BaseModel


class OnConflict(models.TextChoices):
    """What an upload does where its name is taken."""

    KEEP_BOTH = "keep_both", _("Keep both")
    REPLACE = "replace", _("Replace")
    SKIP = "skip", _("Skip")


class Upload(BaseModel, LeasedWithAttempts):
    """A resumable upload under way. Its bytes lie in a part file until the last one has come.

    A worker that checks parts in a bucket holds the lease meanwhile.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="uploads")
    folder = models.ForeignKey(Folder, models.CASCADE, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=255)
    # Folders to be made below `folder`, as a dropped folder tree had them: "holiday/day 1".
    relative_path = models.CharField(max_length=2000, blank=True)
    on_conflict = models.CharField(max_length=10, choices=OnConflict.choices, default=OnConflict.KEEP_BOTH)
    length = models.BigIntegerField()
    offset = models.BigIntegerField(default=0)
    metadata = models.JSONField(default=dict, blank=True)
    expires_at = models.DateTimeField()
    # The multipart upload of an S3 storage that the browser sends its parts to by itself: all but the last
    # have `part_size` bytes.
    multipart_id = models.CharField(max_length=1024, blank=True)
    part_size = models.BigIntegerField(default=0)
    # Since when all parts are there.
    sent_at = models.DateTimeField(null=True, blank=True)
    # Why the worker refused them.
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
            # What the sweep looks for.
            models.Index(
                fields=["sent_at"],
                condition=models.Q(sent_at__isnull=False, completed_at__isnull=True, reason=""),
                name="upload_to_check",
            ),
            models.Index(fields=["owner", "-id"], name="upload_by_owner"),
            # Finished ones stay for days, and a dropped folder makes thousands.
            models.Index(
                fields=["owner", "-id"],
                condition=models.Q(completed_at__isnull=True),
                name="upload_under_way",
            ),
            models.Index(fields=["expires_at"], name="upload_expiry"),
        ]

    @property
    def percent(self) -> int | None:
        """How much of it is here; None where the browser sends it into a bucket by itself."""
        return None if self.multipart_id or not self.length else 100 * self.offset // self.length

    def __str__(self) -> str:
        return self.name
