"""Conversions over the API: ask for one, follow it, confirm how its outputs are read."""

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
    """Weights on their way to a model."""

    @extend_schema(
        operation_id="conversions_get",
        summary="Look at a conversion",
        tags=["Models"],
        responses=ConversionSerializer,
    )
    def get(self, request: Request, conversion_id: UUID) -> Response:
        conversion = conversions.get_conversion(owner=caller(request), conversion_id=conversion_id)
        return row_response(request, conversion, ConversionSerializer)


class ConversionConfirmation(ApiView):
    """The owner's word on how the outputs of an uploaded graph are read."""

    @extend_schema(
        operation_id="conversions_confirm",
        summary="Confirm how a converted graph is read",
        tags=["Models"],
        request=ConfirmationSerializer,
        responses={200: ConversionSerializer, 202: ConversionSerializer},
    )
    def post(self, request: Request, conversion_id: UUID) -> Response:
        """With an empty body, or the first of `report.choices`: others may run the version from then on, and
        it is shared where `publish` was asked for. With another of them it is converted once more (202)."""
        owner = caller(request)
        # Before the body is looked at: what is another person's does not exist, whatever is sent.
        conversions.get_conversion(owner=owner, conversion_id=conversion_id)
        said = validated(ConfirmationSerializer(data=request.data))
        conversion = confirm_layout.confirm_conversion(owner=owner, conversion_id=conversion_id, **said)
        status = 202 if conversion.is_open else 200
        return row_response(request, conversion, ConversionSerializer, status=status)
