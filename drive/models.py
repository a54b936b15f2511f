"""Folders, files, and the content-addressed bytes behind them."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from tree_queries.query import TreeQuerySet

from ipau.common.models import BaseModel


class Blob(models.Model):
    """Bytes in the storage, keyed by their SHA-256. Never changed, shared by all files that have them."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    size = models.BigIntegerField()
    content_type = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)
    # When somebody last said «I need these bytes»; the sweep leaves fresh ones alone.
    touched_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["touched_at"], name="blob_touched")]
        constraints = [models.CheckConstraint(condition=models.Q(size__gte=0), name="blob_size_not_negative")]

    def __str__(self) -> str:
        return self.sha256[:12]

    @property
    def path(self) -> str:
        """The name in the storage."""
        return f"{self.sha256[:2]}/{self.sha256[2:4]}/{self.sha256}"


class Thumbnail(models.Model):
    """A small WebP of a picture, made once for its bytes whoever owns the files."""

    source = models.ForeignKey(Blob, models.CASCADE, related_name="thumbnails")
    side = models.PositiveSmallIntegerField()
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "side"], name="thumbnail_once")]

    def __str__(self) -> str:
        return f"{self.source_id[:12]}@{self.side}"


class Trashable(models.Model):
    """A row that can be put into the trash. All that went with one action share its `trash_root`."""

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
    """A folder of somebody's drive. `parent` is None at the top."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="folders")
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    name = models.CharField(_("name"), max_length=255)

    objects = FolderQuerySet.as_manager()
    # Ancestors and descendants. Narrow it with tree_filter(owner=…), or it walks everybody's folders.
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
    """Where a file is on its way from upload to use."""

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
        """Pictures that an app can be run on: checked, or still to be checked."""
        return self.live().filter(kind=FileKind.PICTURE).exclude(state=FileState.REFUSED)


class File(BaseModel, Trashable):
    """A name in somebody's folder that points to a blob. `folder` is None at the top of the drive."""

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
    # What the content says of itself: duration and codec of a video, format and tensors of weights.
    facts = models.JSONField(default=dict, blank=True)
    # What an API client wants kept with the file.
    metadata = models.JSONField(default=dict, blank=True)
    # A worker that checks this upload owns it until then; one that dies gives it back by running late.
    inspect_until = models.DateTimeField(null=True, blank=True)
    inspections = models.PositiveSmallIntegerField(default=0)

    objects = FileQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "folder", "name"],
                condition=models.Q(trashed_at__isnull=True),
                nulls_distinct=False,
                name="file_name_once",
            ),
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
            # What a search through the whole drive walks along, newest first.
            models.Index(
                fields=["owner", "id"], condition=models.Q(trashed_at__isnull=True), name="file_by_owner"
            ),
            # What the sweep of the trash looks for.
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


class DriveUsage(models.Model):
    """How much somebody keeps, the trash included. Written by the database's own triggers on the files alone:
    what changes a file changes this in the same transaction, however it goes about it."""

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


class CreationKey(models.Model):
    """What a request made under the key that its sender gave it, so that a repeat makes nothing new."""

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


class OnConflict(models.TextChoices):
    """What an upload does where its name is taken."""

    KEEP_BOTH = "keep_both", _("Keep both")
    REPLACE = "replace", _("Replace")
    SKIP = "skip", _("Skip")


class Upload(BaseModel):
    """A resumable upload under way. Its bytes lie in a part file until the last one has come."""

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
    # Since when all parts are there. A worker that checks them owns this upload until `check_until`.
    sent_at = models.DateTimeField(null=True, blank=True)
    check_until = models.DateTimeField(null=True, blank=True)
    checks = models.PositiveSmallIntegerField(default=0)
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


class ShareQuerySet(models.QuerySet["Share"]):
    def visible_to(self, user: Any) -> "ShareQuerySet":
        return self.filter(owner=user)

    def open(self) -> "ShareQuerySet":
        """Shares that a visitor may enter now."""
        now = timezone.now()
        return self.filter(
            models.Q(expires_at__isnull=True) | models.Q(expires_at__gt=now), revoked_at__isnull=True
        )


class Share(BaseModel):
    """A link by which others see one file or one folder."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="shares")
    # 128 random bits in the link. Kept as it is, because the owner copies the link again.
    token = models.CharField(max_length=32, unique=True)
    folder = models.ForeignKey(Folder, models.CASCADE, null=True, blank=True, related_name="shares")
    file = models.ForeignKey(File, models.CASCADE, null=True, blank=True, related_name="shares")
    # What its owner calls it; visitors never see it.
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
