"""Table of sample images that an owner chose for a model, instead of the sample images of the site."""

from typing import Any

from django.db import models
from django.db.models.constraints import Deferrable

from drive.models import Blob
from ipau.common.models import BaseModel
from market.models.listings import Listing
from market.models.weights import Weights

MOST_CHOSEN = 6
# A worker tries a sample, or weights, at most this often.
MAX_ATTEMPTS = 3


class ChosenSampleQuerySet(models.QuerySet["ChosenSample"]):
    def visible_to(self, user: Any) -> "ChosenSampleQuerySet":
        """Samples of models that `user` may see."""
        return self.filter(listing__in=Listing.objects.visible_to(user))


class ChosenSample(BaseModel):
    """An image of the owner (`before`) and the result of the model's newest weights (`after`), as small WebP.

    A worker creates both. Until then, or if it fails, nothing of the image is shown.
    """

    listing = models.ForeignKey(Listing, models.CASCADE, related_name="chosen_samples")
    position = models.PositiveSmallIntegerField()
    # The original, until `before` is created. It is never served to others.
    source = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # SHA-256 of the original.
    digest = models.CharField(max_length=64)
    before = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # The weights that produced `after` and `seen`.
    weights = models.ForeignKey(Weights, models.SET_NULL, null=True, blank=True, related_name="+")
    # Null for classifiers.
    after = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # Size of the larger of the two, for the layout of pages.
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    # Detected classes: each with `name`, and `count` or `confidence`.
    seen = models.JSONField(default=list, blank=True)
    # Whether a worker has to process it: the sample or the model's weights are new.
    is_due = models.BooleanField(default=True)
    # Attempts of workers since then.
    attempts = models.PositiveSmallIntegerField(default=0)

    objects = ChosenSampleQuerySet.as_manager()

    class Meta:
        constraints = [
            # Deferred, so that positions can be swapped.
            models.UniqueConstraint(
                fields=["listing", "position"],
                name="chosen_sample_position_once",
                deferrable=Deferrable.DEFERRED,
            ),
            models.UniqueConstraint(fields=["listing", "digest"], name="chosen_sample_picture_once"),
            models.CheckConstraint(
                condition=models.Q(position__lt=MOST_CHOSEN), name="chosen_sample_at_most_six"
            ),
            models.CheckConstraint(
                condition=models.Q(source__isnull=False, before__isnull=True, after__isnull=True)
                | models.Q(before__isnull=False, width__isnull=False, height__isnull=False),
                name="chosen_sample_has_a_picture",
            ),
        ]
        indexes = [
            models.Index(fields=["updated_at"], condition=models.Q(is_due=True), name="chosen_sample_due")
        ]
        ordering = ["position"]

    def __str__(self) -> str:
        return f"{self.listing_id} {self.position}"

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a worker."""
        return self.is_due and self.attempts < MAX_ATTEMPTS

    @property
    def caption(self) -> str:
        """Empty: the content of an owner's image is not known."""
        return ""
