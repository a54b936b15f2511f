"""Tables of notifications about jobs: webhook deliveries, their secrets, and e-mails."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from ipau.common.leases import LeasedWithAttempts
from ipau.common.models import BaseModel
from processing.models.jobs import Job


class WebhookSecret(models.Model):
    """The key that signs an owner's webhook deliveries: `whsec_` and base64."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="+")
    secret = models.CharField(max_length=100)
    # The previous secret. It signs too until receivers know the new one.
    previous = models.CharField(max_length=100, blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"Secret of {self.owner_id}"


class DeliveryState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    DELIVERED = "delivered", _("Delivered")
    FAILED = "failed", _("Failed")


class Notice(BaseModel, LeasedWithAttempts):
    """A message to send, with retries. A worker owns it while it holds the lease."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    next_at = models.DateTimeField(null=True, blank=True)
    # Why the last attempt failed.
    problem = models.CharField(max_length=300, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class Delivery(Notice):
    """One webhook event for one address. Its id is the `webhook-id`, the same at each attempt."""

    # None for a test, which concerns no job.
    job = models.ForeignKey(Job, models.CASCADE, null=True, blank=True, related_name="deliveries")
    event = models.CharField(max_length=20)
    # For `completed`: when the job ended. A job that is retried ends again.
    ended_at = models.DateTimeField(null=True, blank=True)
    url = models.CharField(max_length=500)
    # The exact body that is sent and signed. Empty until the first attempt.
    body = models.TextField(blank=True)
    # The last attempt: HTTP status, start of the response body, and milliseconds.
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    answer = models.TextField(blank=True)
    took = models.FloatField(null=True, blank=True)
    # [{at, status, problem, took}], newest last.
    log = models.JSONField(default=list, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["job", "ended_at"],
                condition=models.Q(event="completed"),
                name="delivery_completed_once",
            ),
        ]
        indexes = [
            models.Index(
                fields=["owner", "next_at"], condition=models.Q(state="waiting"), name="delivery_due"
            ),
            models.Index(fields=["owner", "-id"], name="delivery_by_owner"),
            models.Index(fields=["created_at"], name="delivery_age"),
        ]

    def __str__(self) -> str:
        return f"{self.event} of {self.job_id}"


class JobMail(Notice):
    """An e-mail that tells the owner of a job that the job ended."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="mails")
    ended_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "ended_at"], name="mail_once")]
        indexes = [
            models.Index(fields=["owner", "next_at"], condition=models.Q(state="waiting"), name="mail_due"),
            models.Index(fields=["created_at"], name="mail_age"),
        ]

    def __str__(self) -> str:
        return f"E-mail about {self.job_id}"
