"""Apps and models over the API."""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import Scope
from ipau.common.api import ApiView, page_of, page_response, validated
from ipau.common.bodies import TextParser
from market import services
from market.serializers import ModelQuery, ModelSerializer, VersionSerializer


class ModelList(ApiView):
    """Everything that can be run."""

    http_method_names = ["get", "query", "head", "options"]
    parser_classes = [TextParser]
    scopes = {"QUERY": Scope.READ}

    @extend_schema(
        operation_id="models_list",
        summary="List and search apps and models",
        tags=["Models"],
        parameters=[ModelQuery],
        responses=page_of(ModelSerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first. The method `QUERY` with the words as a text/plain body searches just the same."""
        words = validated(ModelQuery(data=request.query_params)).get("q", "")
        return self._answer(request, words)

    @property
    def allowed_methods(self) -> list[str]:
        # OpenAPI 3.1 cannot describe QUERY, and its generator stumbles over it.
        return [method for method in super().allowed_methods if method != "QUERY"]

    def query(self, request: Request) -> Response:
        """Search, with the words as a text/plain body."""
        return self._answer(request, str(request.data or ""))

    def _answer(self, request: Request, words: str) -> Response:
        rows = services.search_listings(user=caller(request), words=words)
        return page_response(request, services.with_newest(rows), ModelSerializer)


class ModelDetail(ApiView):
    """One app or model."""

    @extend_schema(
        operation_id="models_get",
        summary="Describe an app or a model",
        tags=["Models"],
        responses=ModelSerializer,
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        listing = services.get_listing(user=caller(request), owner=owner, name=name)
        return Response(ModelSerializer(listing, context={"request": request}).data)


class VersionList(ApiView):
    """The releases of an app or a model."""

    @extend_schema(
        operation_id="models_versions_list",
        summary="List the versions of an app or a model",
        tags=["Models"],
        responses=page_of(VersionSerializer),
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        """Newest first."""
        listing = services.get_listing(user=caller(request), owner=owner, name=name)
        rows = listing.versions.select_related("listing")
        return page_response(request, rows, VersionSerializer, order=("-number",))


class VersionDetail(ApiView):
    """One release."""

    @extend_schema(
        operation_id="models_versions_get",
        summary="Describe a version",
        tags=["Models"],
        responses=VersionSerializer,
    )
    def get(self, request: Request, owner: str, name: str, version_id: UUID) -> Response:
        user = caller(request)
        listing = services.get_listing(user=user, owner=owner, name=name)
        version = services.get_version(user=user, version_id=version_id, listing=listing)
        return Response(VersionSerializer(version).data)
