"""The content-addressed bytes behind files, and their thumbnails."""

from collections.abc import Iterable
from typing import NamedTuple

from django.db import models


class Blob(models.Model):
    """Bytes in the storage, keyed by their SHA-256. Immutable, and shared by all files with this content."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    size = models.BigIntegerField()
    content_type = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)
    # Last use. The sweep skips blobs that were touched recently.
    touched_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["touched_at"], name="blob_touched")]
        constraints = [models.CheckConstraint(condition=models.Q(size__gte=0), name="blob_size_not_negative")]

    def __str__(self) -> str:
        return self.sha256[:12]

    @property
    def path(self) -> str:
        """Name of the object in the storage."""
        return f"{self.sha256[:2]}/{self.sha256[2:4]}/{self.sha256}"


class NewThumbnail(NamedTuple):
    """A thumbnail to record: `blob` is a WebP of `source` with at most `side` pixels a side.

    `source` and `blob` are SHA-256 digests.
    """

    source: str
    side: int
    blob: str


class ThumbnailQuerySet(models.QuerySet["Thumbnail"]):
    """Thumbnails of any images."""

    def add_missing(self, new: Iterable[NewThumbnail]) -> None:
        """Create rows, except for sizes that an image already has.

        Call it in the transaction that registered the bytes.
        """
        # One order, so that two transactions with the same images cannot deadlock.
        rows = [Thumbnail(source_id=one.source, side=one.side, blob_id=one.blob) for one in sorted(set(new))]
        self.bulk_create(rows, ignore_conflicts=True)


class Thumbnail(models.Model):
    """A small WebP of an image, created once per blob and shared by all its files."""

    objects = ThumbnailQuerySet.as_manager()

    source = models.ForeignKey(Blob, models.CASCADE, related_name="thumbnails")
    side = models.PositiveSmallIntegerField()
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "side"], name="thumbnail_once")]

    def __str__(self) -> str:
        return f"{self.source_id[:12]}@{self.side}"
