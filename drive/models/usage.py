"""Bytes and files of each drive, for the quota."""

from django.conf import settings
from django.db import models


class DriveUsage(models.Model):
    """Bytes and number of an account's files, trash included.

    Only database triggers on the files write it, in the transaction that changes a file.
    """

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="drive_usage"
    )
    used_bytes = models.BigIntegerField(default=0)
    files = models.BigIntegerField(default=0)

    class Meta:
        db_table = "drive_usage"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(used_bytes__gte=0, files__gte=0), name="drive_usage_not_negative"
            )
        ]

    def __str__(self) -> str:
        return str(self.pk)
