"""API endpoints that download folders and selections as zip archives."""

from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from accounts.authentication import caller
from accounts.models import Scope, User
from drive.downloads import zip_archives
from drive.downloads.responses import serve_archive
from drive.files import services
from drive.files.services import Selection
from drive.serializers.drive import SelectionSerializer
from ipau.common.api.views import ApiView, validated

_ZIP = {(200, "application/zip"): OpenApiTypes.BINARY}


class FolderArchive(ApiView):
    """Zip of a folder."""

    @extend_schema(
        operation_id="folders_archive", summary="Download a folder as a zip", tags=["Folders"], responses=_ZIP
    )
    def get(self, request: Request, folder_id: UUID) -> HttpResponseBase:
        """Includes subfolders. The zip is streamed while it is created. `Content-Length` is exact, so clients
        detect an incomplete download."""
        owner = caller(request)
        return _archive(owner, services.select(owner=owner, folder_ids=[folder_id]))


class ArchiveList(ApiView):
    """Zip of selected files and folders."""

    # POST, because many ids do not fit into a URL, but it only reads.
    scopes = {"POST": Scope.READ}

    @extend_schema(
        operation_id="archives_create",
        summary="Download files and folders as a zip",
        tags=["Drive"],
        request=SelectionSerializer,
        responses=_ZIP,
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Returns the zip itself and stores nothing. For one folder you can also use
        `GET /v1/folders/{folder_id}/archive`."""
        owner = caller(request)
        sent = validated(SelectionSerializer(data=request.data))
        return _archive(
            owner, services.select(owner=owner, folder_ids=sent["folders"], file_ids=sent["files"])
        )


def _archive(owner: User, chosen: Selection) -> HttpResponseBase:
    stream = zip_archives.archive(zip_archives.members_of(owner=owner, chosen=chosen))
    return serve_archive(stream, name=zip_archives.archive_name(chosen), size=len(stream))
