"""Pictures that an owner shows a model on, in place of those that every model is tried on."""

from typing import Any

from django.db import models
from django.db.models.constraints import Deferrable

from drive.models import Blob
from ipau.common.models import BaseModel
from market.models.listings import Listing
from market.models.weights import Weights

MOST_CHOSEN = 6
# What a worker comes to nothing with is not begun more often.
MAX_ATTEMPTS = 3


class ChosenSampleQuerySet(models.QuerySet["ChosenSample"]):
    def visible_to(self, user: Any) -> "ChosenSampleQuerySet":
        """Those of models that `user` may see."""
        return self.filter(listing__in=Listing.objects.visible_to(user))


class ChosenSample(BaseModel):
    """A picture of its owner's, and what the model's newest weights made of it, both as small WebP.

    A worker makes the two. Until then, and where it cannot, nobody is shown anything of it.
    """

    listing = models.ForeignKey(Listing, models.CASCADE, related_name="chosen_samples")
    position = models.PositiveSmallIntegerField()
    # What was chosen, as it is, until the small picture is made of it: nobody else gets these bytes.
    source = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # Theirs.
    digest = models.CharField(max_length=64)
    before = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # Those that made `after` and `seen`.
    weights = models.ForeignKey(Weights, models.SET_NULL, null=True, blank=True, related_name="+")
    # Classifiers make none.
    after = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # Of the larger of the two, for a page to leave room.
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    # Classes that were found: each with `name`, and `count` or `confidence`.
    seen = models.JSONField(default=list, blank=True)
    # Whether a worker is to look at it: it is new, or the model's weights are.
    is_due = models.BooleanField(default=True)
    # How often one has begun since then.
    attempts = models.PositiveSmallIntegerField(default=0)

    objects = ChosenSampleQuerySet.as_manager()

    class Meta:
        constraints = [
            # Deferred, so that places can be changed.
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
        """Whether a worker is still to look at it."""
        return self.is_due and self.attempts < MAX_ATTEMPTS

    @property
    def caption(self) -> str:
        """What it shows: only its owner knows."""
        return ""
