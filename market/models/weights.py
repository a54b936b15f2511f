"""Weights: converted, safe models, and the conversions that make them of what people upload."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from drive.models import Blob, File
from ipau.common.leases import LeasedWithAttempts
from ipau.common.models import BaseModel


class Weights(BaseModel):
    """A converted model: three files, known by the digest of its `model.json`, which names the other two.

    Never changed. Who uploads the same again gets the same row.
    """

    digest = models.CharField(max_length=64, unique=True)
    family = models.CharField(max_length=32)
    task = models.CharField(max_length=20)
    # What `model.json` says.
    facts = models.JSONField()
    model_json = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    onnx = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    safetensors = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    # Of the upload that it was converted from.
    source_sha256 = models.CharField(max_length=64)
    # How often a worker may still begin to try them; a conversion has tried its own.
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
    """Somebody's uploaded weights on their way to a version of their model `owner/name`."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="conversions")
    file = models.ForeignKey(File, models.SET_NULL, null=True, blank=True, related_name="+")
    # Keeps the bytes for as long as a worker may need them.
    source = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    source_sha256 = models.CharField(max_length=64)
    source_name = models.CharField(max_length=255)
    # Of the listing to be made; a model of that name gets another version instead.
    name = models.SlugField(_("name"), max_length=60)
    title = models.CharField(_("title"), max_length=100)
    # Empty: whichever recognises the weights.
    family = models.CharField(_("family"), max_length=32, blank=True)
    # A `config.json` as its author wrote it.
    config = models.TextField(blank=True)
    publish = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=ConversionState.choices, default=ConversionState.STARTING)
    # What `workers.sandbox.run` reported.
    report = models.JSONField(default=dict, blank=True)
    version = models.ForeignKey(
        "market.Version", models.SET_NULL, null=True, blank=True, related_name="conversions"
    )
    # The version that read the same outputs wrongly, as its owner said: it goes when this one is made.
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
            # What the sweep looks for.
            models.Index(fields=["id"], condition=models.Q(state__in=OPEN), name="conversion_open"),
        ]

    def __str__(self) -> str:
        return f"{self.source_name} → {self.name}"

    @property
    def awaits_word(self) -> bool:
        """Whether its owner is asked how the outputs of the model are read."""
        return self.version is not None and not self.version.is_confirmed

    @property
    def is_open(self) -> bool:
        return self.state in OPEN
