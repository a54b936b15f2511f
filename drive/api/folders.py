"""API endpoints of folders."""

from uuid import UUID

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from drive.api.parameters import filter_rows, folder_or_top, order_of
from drive.files import creation_keys, services, trash, update
from drive.models import Folder
from drive.serializers.drive import DeletionQuery
from drive.serializers.folders import (
    FolderChanges,
    FolderDetailSerializer,
    FolderQuery,
    FolderSerializer,
    NewFolderSerializer,
)
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
        """Returns folders at all depths, unless `parent` is set. With `trashed`: folders that were trashed
        individually, latest first."""
        owner = caller(request)
        query = validated(FolderQuery(data=request.query_params))
        rows = filter_rows(Folder.objects.visible_to(owner), query)
        if "parent" in query:
            rows = rows.filter(parent=folder_or_top(owner, query["parent"]))
        pinned = ["parent_id"] if "parent" in query else []
        return page_response(request, rows, FolderSerializer, order=order_of(query).folders, pinned=pinned)

    @extend_schema(
        operation_id="folders_create",
        summary="Create a folder",
        tags=["Folders"],
        parameters=[IDEMPOTENCY_KEY],
        request=NewFolderSerializer,
        responses={201: FolderDetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """Returns 409 if the name is taken in the parent."""
        sent = validated(NewFolderSerializer(data=request.data))
        owner = caller(request)
        parent = folder_or_top(owner, sent.get("parent"))
        folder = creation_keys.make_once(
            owner=owner,
            key=idempotency_key(request),
            request=lambda: digest_of("folder", sent["name"], sent.get("parent")),
            make=lambda: services.create_folder(owner=owner, parent=parent, name=sent["name"]),
            kind=Folder,
        )
        return row_response(request, folder, FolderDetailSerializer, status=201)


class FolderDetail(ApiView):
    """One folder."""

    @extend_schema(
        operation_id="folders_get",
        summary="Get a folder",
        tags=["Folders"],
        responses=FolderDetailSerializer,
    )
    def get(self, request: Request, folder_id: UUID) -> Response:
        """To list its contents: `GET /v1/files?folder=…` and `GET /v1/folders?parent=…`."""
        folder = services.get_folder(owner=caller(request), folder_id=folder_id)
        return row_response(request, folder, FolderDetailSerializer)

    @extend_schema(
        operation_id="folders_change",
        summary="Rename or move a folder",
        tags=["Folders"],
        request=FolderChanges,
        responses=FolderDetailSerializer,
        examples=[
            OpenApiExample("Rename", {"name": "Holiday"}, request_only=True),
            OpenApiExample("Move to the top", {"parent": "top"}, request_only=True),
        ],
    )
    def patch(self, request: Request, folder_id: UUID) -> Response:
        """Omitted values do not change. Returns 409 if the new name is taken, or if the folder would be moved
        into itself or into one of its subfolders. If only `parent` is sent, a taken name gets a number."""
        owner = caller(request)
        changes = validated(FolderChanges(data=request.data))
        if "parent" in changes:
            changes["parent"] = folder_or_top(owner, changes["parent"])
        folder = update.change_folder(owner=owner, folder_id=folder_id, **changes)
        return row_response(request, folder, FolderDetailSerializer)

    @extend_schema(
        operation_id="folders_delete",
        summary="Delete a folder",
        tags=["Folders"],
        parameters=[DeletionQuery],
        responses={204: None},
    )
    def delete(self, request: Request, folder_id: UUID) -> Response:
        """Moves the folder and its contents to the trash. With `permanently`, deletes them."""
        owner = caller(request)
        if validated(DeletionQuery(data=request.query_params))["permanently"]:
            trash.delete_folder(owner=owner, folder_id=folder_id)
        else:
            trash.trash(owner=owner, chosen=services.select(owner=owner, folder_ids=[folder_id]))
        return Response(status=204)


class FolderRestore(ApiView):
    """Restore of one folder from the trash."""

    @extend_schema(
        operation_id="folders_restore",
        summary="Restore a folder from the trash",
        tags=["Folders"],
        request=None,
        responses=FolderDetailSerializer,
    )
    def post(self, request: Request, folder_id: UUID) -> Response:
        """Restores the folder and its contents to the original place."""
        owner = caller(request)
        trash.restore_selected(owner=owner, folder_ids=[folder_id])
        folder = services.get_folder(owner=owner, folder_id=folder_id)
        return row_response(request, folder, FolderDetailSerializer)
