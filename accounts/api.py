"""The caller's account over the API."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

# Importing it tells the API's description about our keys; only what serves the API pays for that.
from accounts import schema  # noqa: F401
from accounts.authentication import caller
from accounts.serializers import AccountSerializer
from ipau.common.api.views import ApiView


class Account(ApiView):
    """The caller."""

    @extend_schema(
        operation_id="account_get",
        summary="Whose key this is",
        tags=["Account"],
        responses=AccountSerializer,
    )
    def get(self, request: Request) -> Response:
        return Response(AccountSerializer(caller(request)).data)
