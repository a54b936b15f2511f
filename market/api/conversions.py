"""API endpoints of conversions: list, status, confirm the output layout."""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from ipau.common.api.views import ApiView, page_of, page_response, row_response, validated
from market.serializers.conversions import ConfirmationSerializer, ConversionSerializer
from market.weights import confirm_layout, conversions


class ConversionList(ApiView):
    """Conversions of the caller."""

    @extend_schema(
        operation_id="conversions_list",
        summary="List your conversions",
        tags=["Models"],
        responses=page_of(ConversionSerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first."""
        rows = conversions.list_conversions(owner=caller(request))
        return page_response(request, rows.select_related("owner"), ConversionSerializer)


class ConversionDetail(ApiView):
    """One conversion."""

    @extend_schema(
        operation_id="conversions_get",
        summary="Get a conversion",
        tags=["Models"],
        responses=ConversionSerializer,
    )
    def get(self, request: Request, conversion_id: UUID) -> Response:
        conversion = conversions.get_conversion(owner=caller(request), conversion_id=conversion_id)
        return row_response(request, conversion, ConversionSerializer)


class ConversionConfirmation(ApiView):
    """Confirmation of the output layout of an ONNX graph by its owner."""

    @extend_schema(
        operation_id="conversions_confirm",
        summary="Confirm the output layout of a model",
        tags=["Models"],
        request=ConfirmationSerializer,
        responses={200: ConversionSerializer, 202: ConversionSerializer},
    )
    def post(self, request: Request, conversion_id: UUID) -> Response:
        """An empty body, or the first of `report.choices`, confirms the version: others may run it, and it is
        shared if `publish` was set. Another choice converts the weights again (202)."""
        owner = caller(request)
        # Before validation: a conversion of another account is 404, whatever the body.
        conversions.get_conversion(owner=owner, conversion_id=conversion_id)
        choice = validated(ConfirmationSerializer(data=request.data))
        conversion = confirm_layout.confirm_conversion(owner=owner, conversion_id=conversion_id, **choice)
        status = 202 if conversion.is_open else 200
        return row_response(request, conversion, ConversionSerializer, status=status)
