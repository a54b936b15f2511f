"""Serializers of webhooks: request fields, secrets and deliveries."""

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
    """The webhook of a run, and the events to send."""

    webhook = serializers.CharField(
        required=False,
        allow_null=True,
        allow_blank=True,
        max_length=LONGEST,
        help_text="An `https` URL that receives a signed POST request for each event.",
    )
    webhook_events_filter = serializers.ListField(
        child=ChoiceField(choices=[event.value for event in WANTED]),
        required=False,
        allow_null=True,
        help_text="Events to send: `start`, `output`, `completed`. Default: `output` and `completed` for a "
        "prediction, `completed` for a job. `logs` is accepted but sends nothing.",
    )


def webhook_terms(sent: dict[str, Any]) -> dict[str, Any]:
    """Return the webhook fields of a request as keyword arguments of `Terms`."""
    wanted = sent.get("webhook_events_filter") or ()
    return {
        "webhook": sent.get("webhook") or "",
        "webhook_events": tuple(event.value for event in WANTED if event.value in wanted),
    }


class SecretSerializer(serializers.Serializer[Any]):
    """The secret that signs deliveries."""

    key = serializers.CharField(help_text="`whsec_`, followed by the key in base64.")


class DeliveryQuery(PageQuery):
    """Filter of the list of deliveries."""

    state = ChoiceField(required=False, choices=DeliveryState.choices, help_text="Only those in this state.")
    job = serializers.UUIDField(required=False, help_text="Only deliveries of this job or prediction.")


class DeliveryUrlsSerializer(serializers.Serializer[Any]):
    """URLs of a delivery."""

    get = serializers.URLField()
    redeliver = serializers.URLField()


class DeliverySerializer(serializers.Serializer[Delivery]):
    """One webhook event for one address."""

    id = serializers.UUIDField(help_text="The `webhook-id`, the same at each attempt.")
    job = serializers.UUIDField(
        source="job_id", allow_null=True, help_text="The job or prediction; null for a test."
    )
    event = serializers.CharField(help_text="`start`, `output`, `completed` or `ping`.")
    url = serializers.SerializerMethodField(
        help_text="The receiver. Keys without the scope `run` see only the host, as the path may be secret."
    )
    state = ChoiceField(choices=DeliveryState.choices)
    attempts = serializers.IntegerField()
    next_attempt_at = serializers.DateTimeField(source="next_at", allow_null=True)
    status = serializers.IntegerField(allow_null=True, help_text="The HTTP status of the last response.")
    problem = serializers.CharField(help_text="Why the last attempt failed; empty after a success.")
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
    """One attempt of a delivery."""

    at = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True)
    problem = serializers.CharField()
    took = serializers.FloatField(help_text="Duration in milliseconds.")


class WholeDeliverySerializer(DeliverySerializer):
    """One webhook event with its body, the last response and the attempts."""

    body = serializers.CharField(help_text="The exact body that is sent; empty before the first attempt.")
    answer = serializers.CharField(help_text="The start of the last response body.")
    log = serializers.ListField(child=AttemptSerializer(), help_text="The last attempts, oldest first.")
