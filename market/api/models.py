"""API endpoints of apps, models and versions."""

from typing import Any, BinaryIO
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import Scope, User
from drive.files import creation_keys
from drive.files import services as drive
from drive.models import File
from ipau.common.api.parsers import JSONParser, MultiPartParser, TextParser
from ipau.common.api.views import (
    IDEMPOTENCY_KEY,
    ApiView,
    idempotency_key,
    page_of,
    page_response,
    row_response,
    validated,
)
from ipau.common.errors import NotFound
from ipau.common.idempotency import digest_of
from market.listings import services
from market.serializers.conversions import ConversionSerializer, ModelInputSerializer
from market.serializers.listings import ModelChangeSerializer, ModelQuery, ModelSerializer, VersionSerializer
from market.weights import conversions
from market.weights import services as weights_services


class ModelList(ApiView):
    """Apps, models and pipelines that the caller can run."""

    http_method_names = ["get", "post", "query", "head", "options"]
    parser_classes = [MultiPartParser, JSONParser, TextParser]
    scopes = {"QUERY": Scope.READ}

    @extend_schema(
        operation_id="models_list",
        summary="List and search apps and models",
        tags=["Models"],
        parameters=[ModelQuery],
        responses=page_of(ModelSerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first. The method `QUERY` with the words as a text/plain body also searches."""
        words = validated(ModelQuery(data=request.query_params)).get("q", "")
        return self._answer(request, words)

    @extend_schema(
        operation_id="models_create",
        summary="Create a model from weights",
        tags=["Models"],
        parameters=[IDEMPOTENCY_KEY],
        request={
            "multipart/form-data": ModelInputSerializer,
            "application/json": ModelInputSerializer,
        },
        responses={202: ConversionSerializer},
    )
    def post(self, request: Request) -> Response:
        """Checks and converts weights in a sandbox. Poll the conversion until it has ended. The model is
        private unless `publish` is set. The name of an existing model adds a version."""
        owner = caller(request)
        fields = request.data.dict() if hasattr(request.data, "dict") else request.data
        sent = validated(ModelInputSerializer(data=fields))
        key = idempotency_key(request)
        file = _weights(owner, sent.pop("weights", None), sent.pop("file", None), key)
        conversion = conversions.request_conversion(owner=owner, file=file, idempotency_key=key, **sent)
        return row_response(request, conversion, ConversionSerializer, status=202)

    @property
    def allowed_methods(self) -> list[str]:
        # OpenAPI 3.1 cannot describe QUERY, and drf-spectacular fails on it.
        return [method for method in super().allowed_methods if method != "QUERY"]

    def query(self, request: Request) -> Response:
        """Search, with the words as a text/plain body."""
        return self._answer(request, str(request.data or ""))

    def _answer(self, request: Request, words: str) -> Response:
        rows = services.search_listings(user=caller(request), words=words)
        return page_response(
            request, services.with_newest(rows, user=caller(request), measured=True), ModelSerializer
        )


def _weights(owner: User, sent: Any, file_id: UUID | None, key: str | None) -> File:
    """Return the weights file of a request. Stores an uploaded one in the drive, once per idempotency key."""
    if sent is None:
        return drive.get_file(owner=owner, file_id=file_id)
    content: BinaryIO = sent.file
    return creation_keys.make_once(
        owner=owner,
        key=key,
        request=lambda: digest_of("weights", sent.name, content=content),
        make=lambda: conversions.upload_weights(owner=owner, name=sent.name, content=content, size=sent.size),
        kind=File,
    )


class ModelDetail(ApiView):
    """One app or model."""

    @extend_schema(
        operation_id="models_get",
        summary="Get an app or a model",
        tags=["Models"],
        responses=ModelSerializer,
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        return _detail_response(request, owner, name)

    @extend_schema(
        operation_id="models_update",
        summary="Change the texts of a model",
        tags=["Models"],
        request=ModelChangeSerializer,
        responses=ModelSerializer,
    )
    def patch(self, request: Request, owner: str, name: str) -> Response:
        """Only your own models. To change what a model does, upload new weights as a new version."""
        user = _owner(request, owner, name)
        # Before validation: a model of another account is 404, whatever the body.
        weights_services.get_model(owner=user, name=name)
        sent = validated(ModelChangeSerializer(data=request.data))
        weights_services.describe_model(
            owner=user,
            name=name,
            title=sent.get("title"),
            summary=sent.get("description"),
            description=sent.get("readme"),
        )
        return _detail_response(request, owner, name)

    @extend_schema(
        operation_id="models_delete",
        summary="Delete a model",
        tags=["Models"],
        responses={204: None},
    )
    def delete(self, request: Request, owner: str, name: str) -> Response:
        """Only your own models. Deletes its versions too. Its jobs and their results stay."""
        weights_services.delete_model(owner=_owner(request, owner, name), name=name)
        return Response(status=204)


def _detail_response(request: Request, owner: str, name: str) -> Response:
    listing = services.describe_listing(user=caller(request), owner=owner, name=name)
    return row_response(request, listing, ModelSerializer)


def _owner(request: Request, owner: str, name: str) -> User:
    """Return the caller. Raises NotFound if the caller is not the owner, even of a shared model."""
    user = caller(request)
    if owner != user.handle:
        raise NotFound(f"You have no model “{owner}/{name}”.")
    return user


class ModelReadme(ApiView):
    """Description of an app or a model."""

    @extend_schema(
        operation_id="models_readme_get",
        summary="Get the description of an app or a model",
        tags=["Models"],
        responses={(200, "text/markdown"): OpenApiTypes.STR},
    )
    def get(self, request: Request, owner: str, name: str) -> HttpResponse:
        """Markdown as its owner wrote it; empty if there is none."""
        listing = services.get_listing(user=caller(request), owner=owner, name=name)
        return HttpResponse(listing.description, content_type="text/markdown; charset=utf-8")


class VersionList(ApiView):
    """Versions of an app or a model."""

    @extend_schema(
        operation_id="models_versions_list",
        summary="List the versions of an app or a model",
        tags=["Models"],
        responses=page_of(VersionSerializer),
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        """Newest first."""
        user = caller(request)
        listing = services.get_listing(user=user, owner=owner, name=name)
        rows = services.with_measurements(listing.versions.offered_to(user).select_related("listing"))
        rows = rows.prefetch_related("listing__chosen_samples")
        return page_response(request, rows, VersionSerializer, order=("-number",))


class VersionDetail(ApiView):
    """One version."""

    @extend_schema(
        operation_id="models_versions_get",
        summary="Get a version",
        tags=["Models"],
        responses=VersionSerializer,
    )
    def get(self, request: Request, owner: str, name: str, version_id: UUID) -> Response:
        user = caller(request)
        listing = services.get_listing(user=user, owner=owner, name=name)
        version = services.get_version(user=user, version_id=version_id, listing=listing)
        return row_response(request, version, VersionSerializer)
