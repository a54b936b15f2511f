"""Tables of measurements of converted models: speeds by device, and samples."""

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
    """Speed of weights on one device, measured in their trial, in milliseconds."""

    weights = models.ForeignKey(Weights, models.CASCADE, related_name="speeds")
    kind = models.CharField(max_length=3, choices=DeviceKind.choices)
    # Product name: "AMD EPYC 9B14".
    device = models.CharField(max_length=120)
    # First image, including loading the model.
    first_ms = models.FloatField()
    # Median of later images; null if there was no time for any.
    each_ms = models.FloatField(null=True, blank=True)
    runs = models.PositiveSmallIntegerField()
    # Size of the first image.
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
    """Speed of weights in jobs on one device: sums over the images computed there.

    Images of all accounts and all models with the same weights count. The sums reveal nothing about an image
    or an account.
    """

    weights = models.ForeignKey(Weights, models.CASCADE, related_name="job_speeds")
    kind = models.CharField(max_length=3, choices=DeviceKind.choices)
    device = models.CharField(max_length=120)
    pictures = models.PositiveBigIntegerField()
    # Milliseconds that images spent in the model's step. Images of several threads overlap.
    run_ms = models.FloatField()
    # Milliseconds that slots were busy with the images, from fetching to storing.
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
        return f"{self.device}: {self.pictures} images, {self.each_ms:.0f} ms each"

    @property
    def each_ms(self) -> float:
        """Mean milliseconds of a slot per image."""
        return self.slot_ms / self.pictures

    @property
    def each_run_ms(self) -> float:
        """Mean milliseconds of an image in the model's step."""
        return self.run_ms / self.pictures


class SampleQuerySet(models.QuerySet["Sample"]):
    def visible_to(self, user: Any) -> "SampleQuerySet":
        """Samples of weights of a model that `user` may see."""
        versions = Version.objects.offered_to(user).filter(listing__in=Listing.objects.visible_to(user))
        return self.filter(weights__in=versions.values("weights"))


class Sample(BaseModel):
    """A sample image of the site (`before`) and the result of weights (`after`), as small WebP."""

    weights = models.ForeignKey(Weights, models.CASCADE, related_name="samples")
    position = models.PositiveSmallIntegerField()
    # Null for models that generate from noise.
    before = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # Null for classifiers.
    after = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    # Alternative text of `before`.
    caption = models.CharField(max_length=200, blank=True)
    # Size of the larger of the two, for the layout of pages.
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    # Detected classes: each with `name`, and `count` or `confidence`.
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
