"""Files and folders over the API."""

from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import User
from drive import quota, repeats, services
from drive.models import File, Folder
from drive.repeats import digest_of
from drive.serializers import (
    FileQuery,
    FileSerializer,
    FolderQuery,
    FolderSerializer,
    NewFolderSerializer,
    UploadSerializer,
)
from drive.serving import serve
from ipau.common.api import IDEMPOTENCY_KEY, ApiView, idempotency_key, page_of, page_response, validated
from ipau.common.bodies import MultiPartParser

TOP = "top"
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
        """Newest first, over all folders unless one is named."""
        owner = caller(request)
        rows = File.objects.visible_to(owner).live()
        folder = validated(FileQuery(data=request.query_params)).get("folder")
        if folder is not None:
            rows = rows.filter(folder=_folder(owner, folder))
        return page_response(request, rows, FileSerializer)

    @extend_schema(
        operation_id="files_create",
        summary="Upload a file",
        tags=["Files"],
        parameters=[IDEMPOTENCY_KEY],
        request=UploadSerializer,
        responses={201: FileSerializer},
    )
    def post(self, request: Request) -> Response:
        """Send multipart/form-data with the picture as `content`. What it is, is read from its bytes; a name
        that is taken gets a number."""
        owner = caller(request)
        _check_room_early(request, owner)
        sent = validated(UploadSerializer(data=_fields(request)))
        folder = _folder(owner, sent["folder"]) if "folder" in sent else None
        content, metadata = sent["content"], sent.get("metadata")
        file = repeats.make_once(
            owner=owner,
            key=idempotency_key(request),
            request=lambda: digest_of("file", content.name, sent.get("folder"), metadata, content=content),
            make=lambda: services.upload_file(
                owner=owner,
                folder=folder,
                name=content.name,
                content=content,
                size=content.size,
                metadata=metadata,
            ),
            kind=File,
        )
        return Response(FileSerializer(file, context={"request": request}).data, status=201)


class FileDetail(ApiView):
    """One file."""

    @extend_schema(
        operation_id="files_get", summary="Describe a file", tags=["Files"], responses=FileSerializer
    )
    def get(self, request: Request, file_id: UUID) -> Response:
        file = services.get_file(owner=caller(request), file_id=file_id)
        return Response(FileSerializer(file, context={"request": request}).data)

    @extend_schema(
        operation_id="files_delete", summary="Delete a file", tags=["Files"], responses={204: None}
    )
    def delete(self, request: Request, file_id: UUID) -> Response:
        """Puts it into the trash, from which the site can bring it back."""
        owner = caller(request)
        services.trash(owner=owner, chosen=services.select(owner=owner, file_ids=[file_id]))
        return Response(status=204)


class FileContent(ApiView):
    """A file's bytes."""

    @extend_schema(
        operation_id="files_content",
        summary="Read a file's bytes",
        tags=["Files"],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, file_id: UUID) -> HttpResponseBase:
        """Answers with the bytes themselves, never with a redirect."""
        file = services.get_file(owner=caller(request), file_id=file_id)
        return serve(request._request, file.blob, name=file.name, content_type=file.content_type, stream=True)


class FolderList(ApiView):
    """The folders of the caller's drive."""

    @extend_schema(
        operation_id="folders_list",
        summary="List folders",
        tags=["Folders"],
        parameters=[FolderQuery],
        responses=page_of(FolderSerializer),
    )
    def get(self, request: Request) -> Response:
        """Newest first, at all depths unless a parent is named."""
        owner = caller(request)
        rows = Folder.objects.visible_to(owner).live()
        parent = validated(FolderQuery(data=request.query_params)).get("parent")
        if parent is not None:
            rows = rows.filter(parent=_folder(owner, parent))
        return page_response(request, rows, FolderSerializer)

    @extend_schema(
        operation_id="folders_create",
        summary="Make a folder",
        tags=["Folders"],
        parameters=[IDEMPOTENCY_KEY],
        request=NewFolderSerializer,
        responses={201: FolderSerializer},
    )
    def post(self, request: Request) -> Response:
        sent = validated(NewFolderSerializer(data=request.data))
        owner = caller(request)
        parent = _folder(owner, sent["parent"]) if sent.get("parent") else None
        folder = repeats.make_once(
            owner=owner,
            key=idempotency_key(request),
            request=lambda: digest_of("folder", sent["name"], sent.get("parent")),
            make=lambda: services.create_folder(owner=owner, parent=parent, name=sent["name"]),
            kind=Folder,
        )
        return Response(FolderSerializer(folder).data, status=201)


class FolderDetail(ApiView):
    """One folder."""

    @extend_schema(
        operation_id="folders_get", summary="Describe a folder", tags=["Folders"], responses=FolderSerializer
    )
    def get(self, request: Request, folder_id: UUID) -> Response:
        folder = services.get_folder(owner=caller(request), folder_id=folder_id)
        return Response(FolderSerializer(folder).data)


def _check_room_early(request: Request, owner: User) -> None:
    """Refuse before the bytes are read what cannot fit; a repeated request may have its file already."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if length.isdigit() and idempotency_key(request) is None:
        quota.check_room(owner=owner, size=max(0, int(length) - ENVELOPE))


def _folder(owner: User, folder_id: object) -> Folder | None:
    return None if folder_id == TOP else services.get_folder(owner=owner, folder_id=folder_id)


def _fields(request: Request) -> dict[str, Any]:
    """Return a form's parts by name, the last one where a name comes twice; the empty ones left out."""
    if not isinstance(request.data, dict):
        return {}
    return {name: request.data[name] for name in request.data if request.data[name] != ""}
