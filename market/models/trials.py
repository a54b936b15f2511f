"""What was seen of a converted model when it ran: how long it took on a device, what it made of samples."""

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from drive.models import Blob
from ipau.common.models import BaseModel
from market.models.listings import Listing, Version
from market.models.weights import Weights


class DeviceKind(models.TextChoices):
    CPU = "cpu", _("CPU")
    GPU = "gpu", _("GPU")


class Speed(BaseModel):
    """How fast weights are on one device, as the worker measured that converted them. In milliseconds."""

    weights = models.ForeignKey(Weights, models.CASCADE, related_name="speeds")
    kind = models.CharField(max_length=3, choices=DeviceKind.choices)
    # As a person knows it: "AMD EPYC 9B14".
    device = models.CharField(max_length=120)
    # Nothing of the model was loaded before it.
    first_ms = models.FloatField()
    # The median of later ones, where there was time for any.
    each_ms = models.FloatField(null=True, blank=True)
    runs = models.PositiveSmallIntegerField()
    # Of the first picture.
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["weights", "kind", "device"], name="speed_once_a_device"),
            models.CheckConstraint(condition=models.Q(kind__in=DeviceKind.values), name="speed_kind_known"),
            models.CheckConstraint(
                condition=models.Q(first_ms__gt=0, runs__gte=1)
                & (
                    models.Q(each_ms__isnull=True, runs=1)
                    | models.Q(each_ms__isnull=False, each_ms__gt=0, runs__gt=1)
                ),
                name="speed_of_runs",
            ),
        ]
        ordering = ["kind", "device"]

    def __str__(self) -> str:
        return f"{self.device}: {self.first_ms:.0f} ms"


class JobSpeed(BaseModel):
    """How fast weights were in jobs on one device: sums over pictures that were computed there.

    Who ran them does not matter, nor under which model's name: others that have the same weights see these
    figures too, which tell nothing of a picture or a person.
    """

    weights = models.ForeignKey(Weights, models.CASCADE, related_name="job_speeds")
    kind = models.CharField(max_length=3, choices=DeviceKind.choices)
    device = models.CharField(max_length=120)
    pictures = models.PositiveBigIntegerField()
    # Milliseconds that pictures spent in the model's step, those of several threads side by side.
    run_ms = models.FloatField()
    # Milliseconds that slots were busy with them, from fetching to storing.
    slot_ms = models.FloatField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["weights", "kind", "device"], name="job_speed_once_a_device"),
            models.CheckConstraint(
                condition=models.Q(kind__in=DeviceKind.values), name="job_speed_kind_known"
            ),
            models.CheckConstraint(
                condition=models.Q(pictures__gte=1, run_ms__gte=0, slot_ms__gte=0),
                name="job_speed_of_pictures",
            ),
        ]
        ordering = ["kind", "device"]

    def __str__(self) -> str:
        return f"{self.device}: {self.pictures} pictures, {self.each_ms:.0f} ms each"

    @property
    def each_ms(self) -> float:
        """Milliseconds of a slot that a picture took, in the mean."""
        return self.slot_ms / self.pictures

    @property
    def each_run_ms(self) -> float:
        """Milliseconds that a picture spent in the model's step, in the mean."""
        return self.run_ms / self.pictures


class SampleQuerySet(models.QuerySet["Sample"]):
    def visible_to(self, user: Any) -> "SampleQuerySet":
        """Those of weights that a model runs which `user` may see."""
        versions = Version.objects.offered_to(user).filter(listing__in=Listing.objects.visible_to(user))
        return self.filter(weights__in=versions.values("weights"))


class Sample(BaseModel):
    """A picture of ours and what weights made of it, both as small WebP."""

    weights = models.ForeignKey(Weights, models.CASCADE, related_name="samples")
    position = models.PositiveSmallIntegerField()
    # Models that draw from noise look at none.
    before = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # Classifiers make none.
    after = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # What the one before shows, for who cannot see it.
    caption = models.CharField(max_length=200, blank=True)
    # Of the larger of the two, for a page to leave room.
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    # Classes that were found: each with `name`, and `count` or `confidence`.
    seen = models.JSONField(default=list, blank=True)

    objects = SampleQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["weights", "position"], name="sample_position_once"),
            models.CheckConstraint(
                condition=models.Q(before__isnull=False) | models.Q(after__isnull=False),
                name="sample_shows_something",
            ),
        ]
        ordering = ["position"]

    def __str__(self) -> str:
        return f"{self.weights_id} {self.position}"
