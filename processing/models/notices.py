"""Telling other programs that a job has moved: signed deliveries to an address, and what came of them."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from ipau.common.models import BaseModel
from processing.models.jobs import Job


class WebhookSecret(models.Model):
    """The key with which deliveries to an owner's addresses are signed: `whsec_` and base64."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="+")
    secret = models.CharField(max_length=100)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"Secret of {self.owner_id}"


class DeliveryState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    DELIVERED = "delivered", _("Delivered")
    FAILED = "failed", _("Failed")


class Delivery(BaseModel):
    """One event on its way to an address; its id is the `webhook-id`, the same at each attempt."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="deliveries")
    job = models.ForeignKey(Job, models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=20)
    url = models.CharField(max_length=500)
    # Exactly what is sent and signed.
    body = models.TextField()
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True, blank=True)
    # Of the last attempt: the status that came back, or why none did, and the milliseconds that it took.
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    problem = models.CharField(max_length=300, blank=True)
    took = models.FloatField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["job", "event"],
                condition=models.Q(event="completed"),
                name="delivery_completed_once",
            ),
        ]
        indexes = [
            models.Index(fields=["next_at"], condition=models.Q(state="waiting"), name="delivery_due"),
            models.Index(fields=["owner", "-id"], name="delivery_by_owner"),
        ]

    def __str__(self) -> str:
        return f"{self.event} of {self.job_id}"
