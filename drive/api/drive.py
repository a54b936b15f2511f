"""API endpoints of the drive: usage, bulk move, bulk trash and restore, empty trash."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import User
from drive.api.parameters import folder_or_top
from drive.files import quota, services, trash
from drive.files.services import Selection
from drive.serializers.drive import CountSerializer, DriveSerializer, MoveSerializer, SelectionSerializer
from ipau.common.api.views import ApiView, row_response, validated


class Drive(ApiView):
    """Usage of the caller's drive."""

    @extend_schema(
        operation_id="drive_get", summary="Get drive usage", tags=["Drive"], responses=DriveSerializer
    )
    def get(self, request: Request) -> Response:
        return row_response(request, quota.usage_of(caller(request)), DriveSerializer)


class DriveMove(ApiView):
    """Bulk move."""

    @extend_schema(
        operation_id="drive_move",
        summary="Move files and folders",
        tags=["Drive"],
        request=MoveSerializer,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """Moves all items or none. A taken name gets a number. Moving a folder into itself or into one of its
        subfolders returns 409."""
        owner = caller(request)
        sent = validated(MoveSerializer(data=request.data))
        destination = folder_or_top(owner, sent["destination"])
        moved = services.move(owner=owner, chosen=_selection(owner, sent), destination=destination)
        return _count_response(request, moved)


class DriveTrash(ApiView):
    """Bulk move to the trash."""

    @extend_schema(
        operation_id="drive_trash",
        summary="Move files and folders to the trash",
        tags=["Drive"],
        request=SelectionSerializer,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """Trashes all items or none."""
        owner = caller(request)
        chosen = _selection(owner, validated(SelectionSerializer(data=request.data)))
        trash.trash(owner=owner, chosen=chosen)
        return _count_response(request, len(chosen))


class DriveRestore(ApiView):
    """Bulk restore from the trash."""

    @extend_schema(
        operation_id="drive_restore",
        summary="Restore files and folders from the trash",
        tags=["Drive"],
        request=SelectionSerializer,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """Restores all items or none. An item whose folder no longer exists goes to the top of the drive. A
        taken name gets a number."""
        sent = validated(SelectionSerializer(data=request.data))
        restored = trash.restore_selected(
            owner=caller(request), folder_ids=sent["folders"], file_ids=sent["files"]
        )
        return _count_response(request, restored)


class TrashEmpty(ApiView):
    """Permanent deletion of everything in the trash."""

    @extend_schema(
        operation_id="trash_empty",
        summary="Empty the trash",
        tags=["Drive"],
        request=None,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """Permanently deletes everything in the trash. A folder counts as one item, with its contents."""
        return _count_response(request, trash.empty_trash(owner=caller(request)))


def _selection(owner: User, sent: dict[str, list[object]]) -> Selection:
    return services.select(owner=owner, folder_ids=sent["folders"], file_ids=sent["files"])


def _count_response(request: Request, count: int) -> Response:
    return row_response(request, {"count": count}, CountSerializer)
