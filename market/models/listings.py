"""Tables of listings and their immutable versions."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from ipau.common.models import BaseModel


class ListingKind(models.TextChoices):
    APP = "app", _("App")
    MODEL = "model", _("Model")
    PIPELINE = "pipeline", _("Pipeline")


class Tier(models.TextChoices):
    BASIC = "basic", _("Basic")
    ADVANCED = "advanced", _("Advanced")


class Visibility(models.TextChoices):
    PUBLIC = "public", _("Public")
    PRIVATE = "private", _("Private")


class ListingQuerySet(models.QuerySet["Listing"]):
    def visible_to(self, user: Any) -> "ListingQuerySet":
        """Public listings, and those that a signed-in user owns."""
        shown = models.Q(visibility=Visibility.PUBLIC, taken_down=False)
        if user is not None and user.is_authenticated:
            shown |= models.Q(owner=user)
        return self.filter(shown, archived_at=None)


class Listing(BaseModel):
    """An app, a model or a pipeline under the address `owner/name`."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="listings")
    name = models.SlugField(_("name"), max_length=60)
    kind = models.CharField(max_length=10, choices=ListingKind.choices, default=ListingKind.APP)
    tier = models.CharField(max_length=10, choices=Tier.choices, default=Tier.BASIC)
    title = models.CharField(_("title"), max_length=100)
    summary = models.CharField(_("summary"), max_length=200, blank=True)
    description = models.TextField(_("description"), blank=True)
    visibility = models.CharField(max_length=10, choices=Visibility.choices, default=Visibility.PUBLIC)
    # Price per delivered image, in millicredits.
    price_each = models.PositiveBigIntegerField(default=0)
    run_count = models.BigIntegerField(default=0)
    # Set by an operator: only the owner sees it, whatever its visibility.
    taken_down = models.BooleanField(_("taken down"), default=False)
    # Deleted by its owner, but kept for its jobs.
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    idempotency_key = models.CharField(  # noqa: DJ001  (unique, so null)
        max_length=255, null=True, blank=True, editable=False
    )
    request_digest = models.CharField(max_length=64, blank=True, editable=False)

    objects = ListingQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"],
                condition=models.Q(archived_at__isnull=True),
                name="listing_address_once",
            ),
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="listing_idempotency_once"),
        ]
        indexes = [models.Index(fields=["kind", "-id"], name="listing_by_kind")]

    def __str__(self) -> str:
        return self.title

    def is_visible_to(self, user: Any) -> bool:
        """Same rule as `ListingQuerySet.visible_to`, for a loaded row."""
        if self.archived_at is not None:
            return False
        if user is not None and user.is_authenticated and self.owner_id == user.pk:
            return True
        return self.visibility == Visibility.PUBLIC and not self.taken_down


class VersionQuerySet(models.QuerySet["Version"]):
    def offered_to(self, user: Any) -> "VersionQuerySet":
        """Versions that `user` may run: confirmed ones, and those of own listings."""
        offered = models.Q(is_confirmed=True)
        if user is not None and user.is_authenticated:
            offered |= models.Q(listing__owner=user)
        return self.filter(offered)


class Version(BaseModel):
    """An immutable release of a listing: the recipe that workers run, and the schema of its parameters."""

    listing = models.ForeignKey(Listing, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    recipe = models.JSONField()
    params_schema = models.JSONField()
    # Weights of a model. The recipe names the same weights by digest.
    weights = models.ForeignKey(
        "market.Weights", models.PROTECT, null=True, blank=True, related_name="versions"
    )
    # False: the owner has not confirmed the output layout yet, and only the owner can run it.
    is_confirmed = models.BooleanField(default=True)
    # Set while nobody may run it: too many runs of its weights were killed (`market.listings.pauses`).
    paused_at = models.DateTimeField(null=True, blank=True)

    objects = VersionQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["listing", "number"], name="version_number_once")]
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"{self.listing_id} v{self.number}"

    def is_offered_to(self, user: Any) -> bool:
        """Return whether `user` (None: anyone) sees the listing and may run this version."""
        is_own = user is not None and user.is_authenticated and self.listing.owner_id == user.pk
        return self.listing.is_visible_to(user) and (self.is_confirmed or is_own)


class StepModel(models.Model):
    """The model version that a step of a pipeline version runs.

    The recipe names only the weights, which several models may share.
    """

    version = models.ForeignKey(Version, models.CASCADE, related_name="models")
    position = models.PositiveSmallIntegerField()
    # PROTECT: deleting a model that a pipeline runs archives it instead, so that queued jobs still finish.
    model = models.ForeignKey(Version, models.PROTECT, related_name="steps")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "position"], name="step_model_position_once")
        ]

    def __str__(self) -> str:
        return f"{self.version_id} step {self.position + 1}"
