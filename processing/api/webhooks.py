"""API views of webhooks: signing secret, deliveries and redelivery."""

from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, OpenApiWebhook, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import FULL_ACCESS, Scope
from ipau.common.api.views import ApiView, page_of, page_response, row_response, validated
from processing.notifications import services
from processing.serializers import JobSerializer, PredictionSerializer
from processing.serializers.webhooks import (
    DeliveryQuery,
    DeliverySerializer,
    SecretSerializer,
    WholeDeliverySerializer,
)

_SIGNED = (
    "Sent to the URL in `webhook`, with the headers `webhook-id`, `webhook-timestamp` and "
    "`webhook-signature` of Standard Webhooks. Respond with 2xx within ten seconds. After any other response "
    "the delivery is retried for most of a day; 410 stops the retries."
)
PREDICTION_MOVED = OpenApiWebhook(
    name="prediction",
    decorator=extend_schema(
        summary="A prediction started, has a result, or ended",
        description=_SIGNED,
        tags=["Webhooks"],
        request=PredictionSerializer,
        responses={200: OpenApiResponse(description="Received.")},
    ),
)
JOB_MOVED = OpenApiWebhook(
    name="job",
    decorator=extend_schema(
        summary="A job started, has new results, or ended",
        description=_SIGNED,
        tags=["Webhooks"],
        request=JobSerializer,
        responses={200: OpenApiResponse(description="Received.")},
    ),
)


class WebhookSecretDetail(ApiView):
    """Get the secret that signs deliveries."""

    # Anyone with the secret can sign as this site, even after the API key is revoked.
    scopes = {"GET": FULL_ACCESS}

    @extend_schema(
        operation_id="webhooks_secret_get",
        summary="Get the secret that signs deliveries",
        tags=["Webhooks"],
        responses=SecretSerializer,
    )
    def get(self, request: Request) -> Response:
        """Only for keys with all scopes."""
        return _secret(services.get_secret(owner=caller(request)))


class WebhookSecretRotate(ApiView):
    """Rotate the signing secret."""

    scopes = {"POST": FULL_ACCESS}

    @extend_schema(
        operation_id="webhooks_secret_rotate",
        summary="Create a new secret",
        tags=["Webhooks"],
        request=None,
        responses=SecretSerializer,
    )
    def post(self, request: Request) -> Response:
        """Only for keys with all scopes. The previous secret also signs deliveries for one more day."""
        return _secret(services.rotate_secret(owner=caller(request)))


def _secret(secret: str) -> Response:
    return Response(SecretSerializer({"key": secret}).data, headers={"Cache-Control": "no-store"})


class DeliveryList(ApiView):
    """List deliveries of the caller."""

    @extend_schema(
        operation_id="webhooks_deliveries_list",
        summary="List deliveries",
        tags=["Webhooks"],
        parameters=[DeliveryQuery],
        responses=page_of(DeliverySerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first, of the last 30 days."""
        query = validated(DeliveryQuery(data=request.query_params))
        rows = services.list_deliveries(
            owner=caller(request), state=query.get("state"), job_id=query.get("job")
        )
        return page_response(request, rows, DeliverySerializer)


class DeliveryDetail(ApiView):
    """Get one delivery."""

    @extend_schema(
        operation_id="webhooks_deliveries_get",
        summary="Get a delivery",
        tags=["Webhooks"],
        responses=WholeDeliverySerializer,
    )
    def get(self, request: Request, delivery_id: UUID) -> Response:
        delivery = services.get_delivery(owner=caller(request), delivery_id=delivery_id)
        return row_response(request, delivery, WholeDeliverySerializer)


class DeliveryAgain(ApiView):
    """Send a delivery again."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="webhooks_deliveries_redeliver",
        summary="Deliver again",
        tags=["Webhooks"],
        request=None,
        responses={202: WholeDeliverySerializer},
    )
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Sends it now, in any state, with the same id and body."""
        delivery = services.redeliver(owner=caller(request), delivery_id=delivery_id)
        return row_response(request, delivery, WholeDeliverySerializer, status=202)
