"""API endpoints of share links."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.utils.crypto import salted_hmac
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from drive.files import creation_keys
from drive.models import Share
from drive.serializers.shares import NewShareSerializer, ShareQuery, ShareSerializer, ShareTerms
from drive.shares import services
from ipau.common.api.views import (
    IDEMPOTENCY_KEY,
    ApiView,
    idempotency_key,
    page_of,
    page_response,
    row_response,
    validated,
)
from ipau.common.idempotency import digest_of

# An id for examples that no row has.
ID = "01890000-0000-7000-8000-000000000000"


class ShareList(ApiView):
    """Share links of the caller's files and folders."""

    @extend_schema(
        operation_id="shares_list",
        summary="List links",
        tags=["Shares"],
        parameters=[ShareQuery],
        responses=page_of(ShareSerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first. Includes expired links, but not revoked ones."""
        query = validated(ShareQuery(data=request.query_params))
        rows = services.shares_of(owner=caller(request))
        rows = rows.filter(**{name: query[name] for name in ("file", "folder") if name in query})
        return page_response(request, rows, ShareSerializer)

    @extend_schema(
        operation_id="shares_create",
        summary="Create a link to a file or a folder",
        tags=["Shares"],
        parameters=[IDEMPOTENCY_KEY],
        request=NewShareSerializer,
        responses={201: ShareSerializer},
        examples=[
            OpenApiExample("A folder, for 30 days", {"folder": ID}, request_only=True),
            OpenApiExample(
                "A file, view only, without expiry",
                {"file": ID, "access": "view", "expires_at": None, "password": "open sesame"},
                request_only=True,
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        """Visitors open `url` of the response. They see the file, or everything in the folder, without
        locations or other metadata in the images."""
        body = NewShareSerializer(data=request.data)
        sent, owner = validated(body), caller(request)
        target: dict[str, Any] = {"file_id": sent.get("file"), "folder_id": sent.get("folder")}
        share = creation_keys.make_once(
            owner=owner,
            key=idempotency_key(request),
            request=lambda: digest_of("share", target, _with_hashed_password(body.terms())),
            make=lambda: services.create_share(owner=owner, **target, **body.terms()),
            kind=Share,
        )
        return row_response(request, share, ShareSerializer, status=201)


class ShareDetail(ApiView):
    """One link."""

    @extend_schema(
        operation_id="shares_get", summary="Get a link", tags=["Shares"], responses=ShareSerializer
    )
    def get(self, request: Request, share_id: UUID) -> Response:
        share = services.get_share(owner=caller(request), share_id=share_id)
        return row_response(request, share, ShareSerializer)

    @extend_schema(
        operation_id="shares_change",
        summary="Change a link's settings",
        tags=["Shares"],
        request=ShareTerms,
        responses=ShareSerializer,
    )
    def patch(self, request: Request, share_id: UUID) -> Response:
        """Omitted values do not change. Visitors must enter a new password again."""
        body = ShareTerms(data=request.data)
        validated(body)
        share = services.change_share(owner=caller(request), share_id=share_id, **body.terms())
        return row_response(request, share, ShareSerializer)

    @extend_schema(
        operation_id="shares_delete", summary="Revoke a link", tags=["Shares"], responses={204: None}
    )
    def delete(self, request: Request, share_id: UUID) -> Response:
        """Revokes the link permanently. The file or folder stays."""
        services.revoke_share(owner=caller(request), share_id=share_id)
        return Response(status=204)


def _with_hashed_password(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for the stored request digest, with a keyed hash of the password.

    A plain digest of the password would help to guess it.
    """
    secret = salted_hmac("drive.api.shares", terms.get("password", ""), algorithm="sha256").hexdigest()
    return {**terms, "password": secret}
