"""Folders and files."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _
from tree_queries.query import TreeQuerySet

from drive.models.blobs import Blob
from ipau.common.leases import LeasedWithAttempts, is_whole
from ipau.common.models import BaseModel


class Trashable(models.Model):
    """A row that can be trashed. Rows trashed by one action share a `trash_root`."""

    trashed_at = models.DateTimeField(null=True, blank=True)
    trash_root = models.UUIDField(null=True, blank=True)

    class Meta:
        abstract = True


class FolderQuerySet(models.QuerySet["Folder"]):
    def visible_to(self, user: Any) -> "FolderQuerySet":
        return self.filter(owner=user)

    def live(self) -> "FolderQuerySet":
        return self.filter(trashed_at__isnull=True)


class Folder(BaseModel, Trashable):
    """A folder of a drive. `parent` is None at the top."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="folders")
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    name = models.CharField(_("name"), max_length=255)

    objects = FolderQuerySet.as_manager()
    # Ancestors and descendants. Always use tree_filter(owner=…), or it walks the folders of all accounts.
    tree: ClassVar[Any] = TreeQuerySet.as_manager(with_tree_fields=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "parent", "name"],
                condition=models.Q(trashed_at__isnull=True),
                nulls_distinct=False,
                name="folder_name_once",
            ),
            models.CheckConstraint(
                condition=~models.Q(parent=models.F("id")), name="folder_not_its_own_parent"
            ),
        ]
        indexes = [
            models.Index(fields=["owner", "parent", "id"], name="folder_by_age"),
            models.Index(
                "owner",
                "parent",
                Lower("name"),
                "id",
                condition=models.Q(trashed_at__isnull=True),
                name="folder_by_name",
            ),
            models.Index(fields=["owner", "trash_root"], name="folder_trash"),
            models.Index(
                fields=["trashed_at"], condition=models.Q(trashed_at__isnull=False), name="folder_trashed_at"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class FileState(models.TextChoices):
    """State of a file's check by a worker."""

    UPLOADED = "uploaded", _("Being checked")
    READY = "ready", _("Ready")
    REFUSED = "refused", _("Refused")


class FileKind(models.TextChoices):
    PICTURE = "picture", _("Picture")
    VIDEO = "video", _("Video")
    WEIGHTS = "weights", _("Weights")
    TEXT = "text", _("Text")


class FileQuerySet(models.QuerySet["File"]):
    def visible_to(self, user: Any) -> "FileQuerySet":
        return self.filter(owner=user)

    def live(self) -> "FileQuerySet":
        return self.filter(trashed_at__isnull=True)

    def runnable(self) -> "FileQuerySet":
        """Return live images that an app can run on: checked, or not checked yet."""
        return self.live().filter(kind=FileKind.PICTURE).exclude(state=FileState.REFUSED)


class File(BaseModel, Trashable, LeasedWithAttempts):
    """A name in a folder that points to a blob. `folder` is None at the top of the drive.

    A worker that checks a new upload holds its lease.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="files")
    folder = models.ForeignKey(Folder, models.CASCADE, null=True, blank=True, related_name="files")
    name = models.CharField(_("name"), max_length=255)
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="files")
    kind = models.CharField(max_length=10, choices=FileKind.choices, default=FileKind.PICTURE)
    content_type = models.CharField(max_length=100)
    size = models.BigIntegerField()
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=FileState.choices, default=FileState.UPLOADED)
    reason = models.CharField(max_length=300, blank=True)
    starred = models.BooleanField(_("starred"), default=False)
    # Facts read from the content: duration and codec of a video, format and tensors of weights.
    facts = models.JSONField(default=dict, blank=True)
    # JSON that an API client sent with the file.
    metadata = models.JSONField(default=dict, blank=True)

    objects = FileQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "folder", "name"],
                condition=models.Q(trashed_at__isnull=True),
                nulls_distinct=False,
                name="file_name_once",
            ),
            models.CheckConstraint(condition=is_whole(), name="file_lease_is_whole"),
        ]
        indexes = [
            models.Index(fields=["owner", "folder", "id"], name="file_by_age"),
            models.Index(
                "owner",
                "folder",
                Lower("name"),
                "id",
                condition=models.Q(trashed_at__isnull=True),
                name="file_by_name",
            ),
            models.Index(
                fields=["owner", "folder", "size", "id"],
                condition=models.Q(trashed_at__isnull=True),
                name="file_by_size",
            ),
            # For searches of the whole drive, newest first.
            models.Index(
                fields=["owner", "id"], condition=models.Q(trashed_at__isnull=True), name="file_by_owner"
            ),
            # For the sweep of the trash.
            models.Index(
                fields=["trashed_at"], condition=models.Q(trashed_at__isnull=False), name="file_trashed_at"
            ),
            models.Index(fields=["owner", "trash_root"], name="file_trash"),
            models.Index(
                fields=["owner", "id"], condition=models.Q(state="uploaded"), name="file_to_inspect"
            ),
            models.Index(fields=["owner", "id"], condition=models.Q(starred=True), name="file_starred"),
        ]

    def __str__(self) -> str:
        return self.name
