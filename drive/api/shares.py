"""Links over the API."""

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

# In examples. It is nothing's.
ID = "01890000-0000-7000-8000-000000000000"


class ShareList(ApiView):
    """The links to files and folders of the caller."""

    @extend_schema(
        operation_id="shares_list",
        summary="List links",
        tags=["Shares"],
        parameters=[ShareQuery],
        responses=page_of(ShareSerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first, those that have expired included; those that were revoked are gone."""
        asked = validated(ShareQuery(data=request.query_params))
        rows = services.shares_of(owner=caller(request))
        rows = rows.filter(**{name: asked[name] for name in ("file", "folder") if name in asked})
        return page_response(request, rows, ShareSerializer)

    @extend_schema(
        operation_id="shares_create",
        summary="Share a file or a folder by a link",
        tags=["Shares"],
        parameters=[IDEMPOTENCY_KEY],
        request=NewShareSerializer,
        responses={201: ShareSerializer},
        examples=[
            OpenApiExample("A folder, for 30 days", {"folder": ID}, request_only=True),
            OpenApiExample(
                "A file, to look at, for good",
                {"file": ID, "access": "view", "expires_at": None, "password": "open sesame"},
                request_only=True,
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        """Give the answer's `url` to others: they see the file, or all that is in the folder, without
        location or other data inside the pictures."""
        body = NewShareSerializer(data=request.data)
        sent, owner = validated(body), caller(request)
        named: dict[str, Any] = {"file_id": sent.get("file"), "folder_id": sent.get("folder")}
        share = creation_keys.make_once(
            owner=owner,
            key=idempotency_key(request),
            request=lambda: digest_of("share", named, _veiled(body.terms())),
            make=lambda: services.create_share(owner=owner, **named, **body.terms()),
            kind=Share,
        )
        return row_response(request, share, ShareSerializer, status=201)


class ShareDetail(ApiView):
    """One link."""

    @extend_schema(
        operation_id="shares_get", summary="Describe a link", tags=["Shares"], responses=ShareSerializer
    )
    def get(self, request: Request, share_id: UUID) -> Response:
        share = services.get_share(owner=caller(request), share_id=share_id)
        return row_response(request, share, ShareSerializer)

    @extend_schema(
        operation_id="shares_change",
        summary="Change a link's terms",
        tags=["Shares"],
        request=ShareTerms,
        responses=ShareSerializer,
    )
    def patch(self, request: Request, share_id: UUID) -> Response:
        """What is not sent stays. Whoever came in with an old password is asked for the new one."""
        body = ShareTerms(data=request.data)
        validated(body)
        share = services.change_share(owner=caller(request), share_id=share_id, **body.terms())
        return row_response(request, share, ShareSerializer)

    @extend_schema(
        operation_id="shares_delete", summary="Revoke a link", tags=["Shares"], responses={204: None}
    )
    def delete(self, request: Request, share_id: UUID) -> Response:
        """Ends it for good. What it led to stays."""
        services.revoke_share(owner=caller(request), share_id=share_id)
        return Response(status=204)


def _veiled(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return the terms for a digest that is kept: a quick one of a password would help to guess it."""
    secret = salted_hmac("drive.api.shares", terms.get("password", ""), algorithm="sha256").hexdigest()
    return {**terms, "password": secret}
