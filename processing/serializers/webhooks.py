"""Webhooks as the API takes and tells them."""

from typing import Any
from urllib.parse import urlsplit

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.authentication import has_scope
from accounts.models import Scope
from ipau.common.api.fields import ChoiceField
from ipau.common.api.views import PageQuery
from processing.models import Delivery, DeliveryState
from processing.notifications.record import WANTED
from processing.notifications.url_policy import LONGEST


class WebhookInputSerializer(serializers.Serializer[Any]):
    """Who is told when it moves."""

    webhook = serializers.CharField(
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=LONGEST,
        help_text="An `https` address to which it is posted, signed, when something happens to it.",
    )
    webhook_events_filter = serializers.ListField(
        child=ChoiceField(choices=[event.value for event in WANTED]),
        required=False,
        allow_null=True,
        help_text="What is told: `start`, `output`, `completed`. Without, a prediction tells `output` and "
        "`completed`, a job `completed`. `logs` is taken and tells nothing of its own.",
    )


def webhook_terms(sent: dict[str, Any]) -> dict[str, Any]:
    """Return what was sent of a webhook as terms of a run."""
    wanted = sent.get("webhook_events_filter") or ()
    return {
        "webhook": sent.get("webhook") or "",
        "webhook_events": tuple(event.value for event in WANTED if event.value in wanted),
    }


class SecretSerializer(serializers.Serializer[Any]):
    """What deliveries are signed with."""

    key = serializers.CharField(help_text="`whsec_` and the key in base64.")


class DeliveryQuery(PageQuery):
    """Which deliveries to list."""

    state = ChoiceField(required=False, choices=DeliveryState.choices, help_text="Only these.")
    job = serializers.UUIDField(required=False, help_text="Only those about this job or prediction.")


class DeliveryUrlsSerializer(serializers.Serializer[Any]):
    """Where it is found."""

    get = serializers.URLField()
    redeliver = serializers.URLField()


class DeliverySerializer(serializers.Serializer[Delivery]):
    """One event on its way to an address."""

    id = serializers.UUIDField(help_text="Its `webhook-id`, the same at each attempt.")
    job = serializers.UUIDField(
        source="job_id", allow_null=True, help_text="The job or prediction; null for a test."
    )
    event = serializers.CharField(help_text="`start`, `output`, `completed` or `ping`.")
    url = serializers.SerializerMethodField(
        help_text="Where it goes. Keys without the scope `run` see the host alone: the rest may be a secret."
    )
    state = ChoiceField(choices=DeliveryState.choices)
    attempts = serializers.IntegerField()
    next_attempt_at = serializers.DateTimeField(source="next_at", allow_null=True)
    status = serializers.IntegerField(allow_null=True, help_text="The HTTP status of the last answer.")
    problem = serializers.CharField(help_text="Why the last attempt failed; empty where it did not.")
    created_at = serializers.DateTimeField()
    delivered_at = serializers.DateTimeField(allow_null=True)
    urls = serializers.SerializerMethodField()

    def get_url(self, delivery: Delivery) -> str:
        if has_scope(self.context["request"], Scope.RUN):
            return delivery.url
        parts = urlsplit(delivery.url)
        return f"{parts.scheme}://{parts.netloc}/…"

    @extend_schema_field(DeliveryUrlsSerializer)
    def get_urls(self, delivery: Delivery) -> dict[str, str]:
        build = self.context["request"].build_absolute_uri
        return {
            "get": build(reverse("v1:webhook-delivery", args=[delivery.pk])),
            "redeliver": build(reverse("v1:webhook-redeliver", args=[delivery.pk])),
        }


class AttemptSerializer(serializers.Serializer[Any]):
    """One attempt."""

    at = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True)
    problem = serializers.CharField()
    took = serializers.FloatField(help_text="Milliseconds.")


class WholeDeliverySerializer(DeliverySerializer):
    """One event on its way to an address, with what was sent and what came back."""

    body = serializers.CharField(help_text="What is sent, exactly; empty before the first attempt.")
    answer = serializers.CharField(help_text="How the last answer begins.")
    log = serializers.ListField(child=AttemptSerializer(), help_text="The last attempts, oldest first.")
