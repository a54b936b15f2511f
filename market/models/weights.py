"""Tables of converted weights and of conversions of uploaded files."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from drive.models import Blob, File
from ipau.common.leases import LeasedWithAttempts
from ipau.common.models import BaseModel


class Weights(BaseModel):
    """A converted model: three files. Its digest is that of `model.json`, which names the other two.

    Immutable. Uploading the same weights again returns the same row.
    """

    digest = models.CharField(max_length=64, unique=True)
    family = models.CharField(max_length=32)
    task = models.CharField(max_length=20)
    # Content of `model.json`.
    facts = models.JSONField()
    model_json = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    onnx = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    safetensors = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    # SHA-256 of the uploaded file.
    source_sha256 = models.CharField(max_length=64)
    # Attempts left for a trial. A conversion runs the trial itself, so this is 0.
    trials_left = models.PositiveSmallIntegerField(default=0)

    class Meta:
        verbose_name_plural = "weights"
        indexes = [
            models.Index(fields=["updated_at"], condition=models.Q(trials_left__gt=0), name="weights_to_try")
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(model_json=models.F("digest")), name="weights_digest_is_of_model_json"
            )
        ]

    def __str__(self) -> str:
        return f"{self.family} {self.digest[:12]}"


class ConversionState(models.TextChoices):
    STARTING = "starting", _("Waiting")
    PROCESSING = "processing", _("Converting")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Refused")


OPEN = (ConversionState.STARTING, ConversionState.PROCESSING)


class ConversionQuerySet(models.QuerySet["Conversion"]):
    def visible_to(self, user: Any) -> "ConversionQuerySet":
        return self.filter(owner=user)

    def open(self) -> "ConversionQuerySet":
        return self.filter(state__in=OPEN)


class Conversion(BaseModel, LeasedWithAttempts):
    """Conversion of uploaded weights into a version of the model `owner/name`."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="conversions")
    file = models.ForeignKey(File, models.SET_NULL, null=True, blank=True, related_name="+")
    # Keeps the bytes while a worker may need them.
    source = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    source_sha256 = models.CharField(max_length=64)
    source_name = models.CharField(max_length=255)
    # Name of the new listing. An existing model of this name gets a new version instead.
    name = models.SlugField(_("name"), max_length=60)
    title = models.CharField(_("title"), max_length=100)
    # Empty: the family that recognizes the weights.
    family = models.CharField(_("family"), max_length=32, blank=True)
    # The text of a `config.json`.
    config = models.TextField(blank=True)
    publish = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=ConversionState.choices, default=ConversionState.STARTING)
    # Report of `workers.sandbox.run`.
    report = models.JSONField(default=dict, blank=True)
    version = models.ForeignKey(
        "market.Version", models.SET_NULL, null=True, blank=True, related_name="conversions"
    )
    # The version with the wrong output layout. It is deleted when this conversion succeeds.
    corrects = models.ForeignKey("market.Version", models.SET_NULL, null=True, blank=True, related_name="+")
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    idempotency_key = models.CharField(  # noqa: DJ001  (unique, so null)
        max_length=255, null=True, blank=True, editable=False
    )
    request_digest = models.CharField(max_length=64, blank=True, editable=False)

    objects = ConversionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="conversion_idempotency_once"),
            models.CheckConstraint(
                condition=models.Q(state__in=OPEN, source__isnull=False, completed_at__isnull=True)
                | (~models.Q(state__in=OPEN) & models.Q(source__isnull=True, completed_at__isnull=False)),
                name="conversion_holds_source_while_open",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    state="processing", lease_token__isnull=False, lease_expires_at__isnull=False
                )
                | (~models.Q(state="processing") & models.Q(lease_token__isnull=True)),
                name="conversion_leased_while_processing",
            ),
            models.CheckConstraint(
                condition=models.Q(version__isnull=True) | models.Q(state="succeeded"),
                name="conversion_version_of_success",
            ),
        ]
        indexes = [
            models.Index(fields=["owner", "-id"], name="conversion_by_owner"),
            # For the sweep.
            models.Index(fields=["id"], condition=models.Q(state__in=OPEN), name="conversion_open"),
        ]

    def __str__(self) -> str:
        return f"{self.source_name} → {self.name}"

    @property
    def needs_confirmation(self) -> bool:
        """Whether its owner has to confirm the output layout."""
        return self.version is not None and not self.version.is_confirmed

    @property
    def is_open(self) -> bool:
        return self.state in OPEN
