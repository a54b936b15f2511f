"""Share links to files and folders."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from drive.models.files import File, Folder
from ipau.common.models import BaseModel


class ShareQuerySet(models.QuerySet["Share"]):
    def visible_to(self, user: Any) -> "ShareQuerySet":
        return self.filter(owner=user)

    def open(self) -> "ShareQuerySet":
        """Return shares that are neither expired nor revoked."""
        now = timezone.now()
        return self.filter(
            models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=now), revoked_at__isnull=True
        )


class Share(BaseModel):
    """A link to one file or one folder, for visitors without an account."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="shares")
    # 192 random bits. Stored in plain text, because the owner can copy the link again.
    token = models.CharField(max_length=32, unique=True)
    folder = models.ForeignKey(Folder, models.CASCADE, null=True, blank=True, related_name="shares")
    file = models.ForeignKey(File, models.CASCADE, null=True, blank=True, related_name="shares")
    # The owner's own name for the link; visitors never see it.
    label = models.CharField(_("label"), max_length=100, blank=True)
    password = models.CharField(max_length=255, blank=True)
    can_download = models.BooleanField(_("visitors may download"), default=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    visits = models.PositiveIntegerField(default=0)
    last_visited_at = models.DateTimeField(null=True, blank=True)

    objects = ShareQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(file__isnull=True) ^ models.Q(folder__isnull=True),
                name="share_names_one_thing",
            )
        ]
        indexes = [models.Index(fields=["owner", "-id"], name="share_by_owner")]

    def __str__(self) -> str:
        return self.token[:6]

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()
