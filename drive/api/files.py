"""API endpoints of files."""

from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import User
from drive.api.parameters import filter_rows, folder_or_top, order_of
from drive.downloads.responses import serve
from drive.files import creation_keys, quota, services, trash, update
from drive.models import File
from drive.serializers.drive import DeletionQuery
from drive.serializers.files import FileChanges, FileQuery, FileSerializer, UploadSerializer
from drive.uploads import services as uploads_services
from ipau.common.api.parsers import MultiPartParser
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

# Bytes of a form in addition to the file.
ENVELOPE = 1024 * 1024


class FileList(ApiView):
    """The files of the caller's drive."""

    parser_classes = [MultiPartParser]

    @extend_schema(
        operation_id="files_list",
        summary="List files",
        tags=["Files"],
        parameters=[FileQuery],
        responses=page_of(FileSerializer),
    )
    def get(self, request: Request) -> Response:
        """Returns the files of all folders, unless `folder` is set. With `trashed`: files that were trashed
        individually, latest first. Files trashed with their folder are restored with it."""
        owner = caller(request)
        query = validated(FileQuery(data=request.query_params))
        rows = filter_rows(File.objects.visible_to(owner), query)
        if "folder" in query:
            rows = rows.filter(folder=folder_or_top(owner, query["folder"]))
        if "kind" in query:
            rows = rows.filter(kind=query["kind"])
        if "starred" in query:
            rows = rows.filter(starred=query["starred"])
        # An index on (owner, folder, …) gives the order within a folder.
        pinned = ["folder_id"] if "folder" in query else []
        return page_response(request, rows, FileSerializer, order=order_of(query).files, pinned=pinned)

    @extend_schema(
        operation_id="files_create",
        summary="Upload a file",
        tags=["Files"],
        parameters=[IDEMPOTENCY_KEY],
        request=UploadSerializer,
        responses={201: FileSerializer},
    )
    def post(self, request: Request) -> Response:
        """Send multipart/form-data with the file as `content`. Its type is detected from its bytes; a taken
        name gets a number. For large files or unreliable connections use resumable uploads:
        `POST /v1/uploads`."""
        owner = caller(request)
        _check_room_early(request, owner)
        sent = validated(UploadSerializer(data=_fields(request)))
        folder = folder_or_top(owner, sent.get("folder"))
        content, metadata = sent["content"], sent.get("metadata")
        file = creation_keys.make_once(
            owner=owner,
            key=idempotency_key(request),
            request=lambda: digest_of("file", content.name, sent.get("folder"), metadata, content=content),
            make=lambda: uploads_services.upload_file(
                owner=owner,
                folder=folder,
                name=content.name,
                content=content,
                size=content.size,
                metadata=metadata,
            ),
            kind=File,
        )
        return row_response(request, file, FileSerializer, status=201)


class FileDetail(ApiView):
    """One file."""

    @extend_schema(operation_id="files_get", summary="Get a file", tags=["Files"], responses=FileSerializer)
    def get(self, request: Request, file_id: UUID) -> Response:
        file = services.get_file(owner=caller(request), file_id=file_id)
        return row_response(request, file, FileSerializer)

    @extend_schema(
        operation_id="files_change",
        summary="Rename, move or star a file",
        tags=["Files"],
        request=FileChanges,
        responses=FileSerializer,
        examples=[
            OpenApiExample("Rename", {"name": "Sea.jpg"}, request_only=True),
            OpenApiExample(
                "Move to the top, with a star", {"folder": "top", "starred": True}, request_only=True
            ),
        ],
    )
    def patch(self, request: Request, file_id: UUID) -> Response:
        """Omitted values do not change. Changes are atomic. Returns 409 if the new name is taken. If only
        `folder` is sent, a taken name gets a number."""
        owner = caller(request)
        changes = validated(FileChanges(data=request.data))
        if "folder" in changes:
            changes["folder"] = folder_or_top(owner, changes["folder"])
        file = update.change_file(owner=owner, file_id=file_id, **changes)
        return row_response(request, file, FileSerializer)

    @extend_schema(
        operation_id="files_delete",
        summary="Delete a file",
        tags=["Files"],
        parameters=[DeletionQuery],
        responses={204: None},
    )
    def delete(self, request: Request, file_id: UUID) -> Response:
        """Moves the file to the trash. With `permanently`, deletes it, from its folder or from the trash."""
        owner = caller(request)
        if validated(DeletionQuery(data=request.query_params))["permanently"]:
            trash.delete_file(owner=owner, file_id=file_id)
        else:
            trash.trash(owner=owner, chosen=services.select(owner=owner, file_ids=[file_id]))
        return Response(status=204)


class FileRestore(ApiView):
    """Restore of one file from the trash."""

    @extend_schema(
        operation_id="files_restore",
        summary="Restore a file from the trash",
        tags=["Files"],
        request=None,
        responses=FileSerializer,
    )
    def post(self, request: Request, file_id: UUID) -> Response:
        """Restores the file to its folder, or to the top of the drive if the folder no longer exists. A taken
        name gets a number."""
        owner = caller(request)
        trash.restore_selected(owner=owner, file_ids=[file_id])
        file = services.get_file(owner=owner, file_id=file_id)
        return row_response(request, file, FileSerializer)


class FileContent(ApiView):
    """Content of a file."""

    @extend_schema(
        operation_id="files_content",
        summary="Download a file's content",
        tags=["Files"],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, file_id: UUID) -> HttpResponseBase:
        """Returns the bytes directly, never a redirect. Supports `Range` and `If-None-Match`."""
        file = services.get_file(owner=caller(request), file_id=file_id)
        return serve(request._request, file.blob, name=file.name, content_type=file.content_type, stream=True)


def _check_room_early(request: Request, owner: User) -> None:
    """Refuse a file without room before reading its bytes, except with an idempotency key.

    A repeated request may already have its file.
    """
    length = request.META.get("CONTENT_LENGTH") or ""
    if length.isdigit() and int(length) > ENVELOPE and idempotency_key(request) is None:
        quota.check_room(owner=owner, size=int(length) - ENVELOPE)


def _fields(request: Request) -> dict[str, Any]:
    """Return the non-empty parts of a form by name; of duplicates, the last one."""
    if not isinstance(request.data, dict):
        return {}
    return {name: request.data[name] for name in request.data if request.data[name] != ""}
