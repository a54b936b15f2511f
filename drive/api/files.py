"""Files over the API."""

from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import User
from drive.api.parameters import folder_or_top, listed, order_of
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

# What surrounds the bytes of a file in a form.
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
        """Over all folders unless one is named. With `trashed`, what was put into the trash by itself, the
        latest first: what went there with its folder comes back with that."""
        owner = caller(request)
        asked = validated(FileQuery(data=request.query_params))
        rows = listed(File.objects.visible_to(owner), asked)
        if "folder" in asked:
            rows = rows.filter(folder=folder_or_top(owner, asked["folder"]))
        if "kind" in asked:
            rows = rows.filter(kind=asked["kind"])
        if "starred" in asked:
            rows = rows.filter(starred=asked["starred"])
        # An index on (owner, folder, …) gives the order within a folder.
        pinned = ["folder_id"] if "folder" in asked else []
        return page_response(request, rows, FileSerializer, order=order_of(asked).files, pinned=pinned)

    @extend_schema(
        operation_id="files_create",
        summary="Upload a file",
        tags=["Files"],
        parameters=[IDEMPOTENCY_KEY],
        request=UploadSerializer,
        responses={201: FileSerializer},
    )
    def post(self, request: Request) -> Response:
        """Send multipart/form-data with the file as `content`. What it is, is read from its bytes; a name
        that is taken gets a number. Larger files, or a connection that breaks, are a matter for resumable
        uploads: they begin at `POST /v1/uploads`, which leads to the same kind of file."""
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

    @extend_schema(
        operation_id="files_get", summary="Describe a file", tags=["Files"], responses=FileSerializer
    )
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
        """What is not sent stays. All of it is done, or nothing: a name that is taken is refused with 409.
        Where only `folder` is sent, a name that is taken there gets a number."""
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
        """Puts it into the trash. With `permanently`, deletes it for good, from there or from its folder."""
        owner = caller(request)
        if validated(DeletionQuery(data=request.query_params))["permanently"]:
            trash.delete_file(owner=owner, file_id=file_id)
        else:
            trash.trash(owner=owner, chosen=services.select(owner=owner, file_ids=[file_id]))
        return Response(status=204)


class FileRestore(ApiView):
    """A file's way out of the trash."""

    @extend_schema(
        operation_id="files_restore",
        summary="Take a file out of the trash",
        tags=["Files"],
        request=None,
        responses=FileSerializer,
    )
    def post(self, request: Request, file_id: UUID) -> Response:
        """Puts it back to where it was: at the top of the drive, if its folder has gone. A name that has been
        taken meanwhile gets a number."""
        owner = caller(request)
        trash.restore_selected(owner=owner, file_ids=[file_id])
        file = services.get_file(owner=owner, file_id=file_id)
        return row_response(request, file, FileSerializer)


class FileContent(ApiView):
    """A file's bytes."""

    @extend_schema(
        operation_id="files_content",
        summary="Read a file's bytes",
        tags=["Files"],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, file_id: UUID) -> HttpResponseBase:
        """Answers with the bytes themselves, never with a redirect. Takes `Range` and `If-None-Match`."""
        file = services.get_file(owner=caller(request), file_id=file_id)
        return serve(request._request, file.blob, name=file.name, content_type=file.content_type, stream=True)


def _check_room_early(request: Request, owner: User) -> None:
    """Refuse before the bytes are read what cannot fit; a repeated request may have its file already."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if length.isdigit() and int(length) > ENVELOPE and idempotency_key(request) is None:
        quota.check_room(owner=owner, size=int(length) - ENVELOPE)


def _fields(request: Request) -> dict[str, Any]:
    """Return a form's parts by name, the last one where a name comes twice; the empty ones left out."""
    if not isinstance(request.data, dict):
        return {}
    return {name: request.data[name] for name in request.data if request.data[name] != ""}
