"""Webhooks over the API: the secret, what was delivered, delivering again."""

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
    "Sent to the address in `webhook`, with the headers `webhook-id`, `webhook-timestamp` and "
    "`webhook-signature` of Standard Webhooks. Answer with 2xx within ten seconds; anything else is tried "
    "again for most of a day, 410 ends it."
)
PREDICTION_MOVED = OpenApiWebhook(
    name="prediction",
    decorator=extend_schema(
        summary="A prediction began, has a result, or ended",
        description=_SIGNED,
        tags=["Webhooks"],
        request=PredictionSerializer,
        responses={200: OpenApiResponse(description="Received.")},
    ),
)
JOB_MOVED = OpenApiWebhook(
    name="job",
    decorator=extend_schema(
        summary="A job began, has new results, or ended",
        description=_SIGNED,
        tags=["Webhooks"],
        request=JobSerializer,
        responses={200: OpenApiResponse(description="Received.")},
    ),
)


class WebhookSecretDetail(ApiView):
    """The secret that signs deliveries."""

    # Whoever has it can sign in our name, also when the key has been revoked.
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
    """A new secret."""

    scopes = {"POST": FULL_ACCESS}

    @extend_schema(
        operation_id="webhooks_secret_rotate",
        summary="Make a new secret",
        tags=["Webhooks"],
        request=None,
        responses=SecretSerializer,
    )
    def post(self, request: Request) -> Response:
        """Only for keys with all scopes. For a day deliveries are signed with the secret before as well."""
        return _secret(services.rotate_secret(owner=caller(request)))


def _secret(secret: str) -> Response:
    return Response(SecretSerializer({"key": secret}).data, headers={"Cache-Control": "no-store"})


class DeliveryList(ApiView):
    """Deliveries to the caller's addresses."""

    @extend_schema(
        operation_id="webhooks_deliveries_list",
        summary="List deliveries",
        tags=["Webhooks"],
        parameters=[DeliveryQuery],
        responses=page_of(DeliverySerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first, those of the last 30 days."""
        asked = validated(DeliveryQuery(data=request.query_params))
        rows = services.list_deliveries(
            owner=caller(request), state=asked.get("state"), job_id=asked.get("job")
        )
        return page_response(request, rows, DeliverySerializer)


class DeliveryDetail(ApiView):
    """One delivery."""

    @extend_schema(
        operation_id="webhooks_deliveries_get",
        summary="Look at a delivery",
        tags=["Webhooks"],
        responses=WholeDeliverySerializer,
    )
    def get(self, request: Request, delivery_id: UUID) -> Response:
        found = services.get_delivery(owner=caller(request), delivery_id=delivery_id)
        return row_response(request, found, WholeDeliverySerializer)


class DeliveryAgain(ApiView):
    """A delivery once more."""

    scopes = {"POST": Scope.RUN}

    @extend_schema(
        operation_id="webhooks_deliveries_redeliver",
        summary="Deliver again",
        tags=["Webhooks"],
        request=None,
        responses={202: WholeDeliverySerializer},
    )
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Now, under the same id and with the same words, whatever came of it before."""
        found = services.redeliver(owner=caller(request), delivery_id=delivery_id)
        return row_response(request, found, WholeDeliverySerializer, status=202)
