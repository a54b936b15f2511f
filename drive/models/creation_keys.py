"""Idempotency keys of requests that create files, folders and shares."""

from django.conf import settings
from django.db import models

from drive.models.files import File, Folder


class CreationKey(models.Model):
    """What a request with an idempotency key created; a repeated request returns it."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    request_digest = models.CharField(max_length=64)
    file = models.ForeignKey(File, models.CASCADE, null=True, blank=True, related_name="+")
    folder = models.ForeignKey(Folder, models.CASCADE, null=True, blank=True, related_name="+")
    share = models.ForeignKey("Share", models.CASCADE, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "key"], name="creation_key_once"),
            models.CheckConstraint(
                condition=models.Q(file__isnull=False, folder__isnull=True, share__isnull=True)
                | models.Q(file__isnull=True, folder__isnull=False, share__isnull=True)
                | models.Q(file__isnull=True, folder__isnull=True, share__isnull=False),
                name="creation_key_names_one_thing",
            ),
        ]

    def __str__(self) -> str:
        return self.key
