"""API endpoint of the caller's account."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

# The import registers the API key scheme with drf-spectacular. Only processes that serve the API import it.
from accounts import schema  # noqa: F401
from accounts.authentication import caller
from accounts.serializers import AccountSerializer
from ipau.common.api.views import ApiView


class Account(ApiView):
    """The caller's account."""

    @extend_schema(
        operation_id="account_get",
        summary="Get your account",
        tags=["Account"],
        responses=AccountSerializer,
    )
    def get(self, request: Request) -> Response:
        return Response(AccountSerializer(caller(request)).data)
