"""The drive as a whole over the API: how full it is, many things at once, the trash."""

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
    """The caller's drive."""

    @extend_schema(
        operation_id="drive_get", summary="How full the drive is", tags=["Drive"], responses=DriveSerializer
    )
    def get(self, request: Request) -> Response:
        return row_response(request, quota.usage_of(caller(request)), DriveSerializer)


class DriveMove(ApiView):
    """Moving many things at once."""

    @extend_schema(
        operation_id="drive_move",
        summary="Move files and folders",
        tags=["Drive"],
        request=MoveSerializer,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """All of them, or none. A name that is taken at the destination gets a number. A folder cannot be
        moved into itself or into one inside it: 409."""
        owner = caller(request)
        sent = validated(MoveSerializer(data=request.data))
        destination = folder_or_top(owner, sent["destination"])
        moved = services.move(owner=owner, chosen=_selection(owner, sent), destination=destination)
        return _counted(request, moved)


class DriveTrash(ApiView):
    """Trashing many things at once."""

    @extend_schema(
        operation_id="drive_trash",
        summary="Put files and folders into the trash",
        tags=["Drive"],
        request=SelectionSerializer,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """All of them, or none."""
        owner = caller(request)
        chosen = _selection(owner, validated(SelectionSerializer(data=request.data)))
        trash.trash(owner=owner, chosen=chosen)
        return _counted(request, len(chosen))


class DriveRestore(ApiView):
    """Restoring many things at once."""

    @extend_schema(
        operation_id="drive_restore",
        summary="Take files and folders out of the trash",
        tags=["Drive"],
        request=SelectionSerializer,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """All of them, or none. What has lost its folder goes to the top of the drive; what has lost its name
        gets a number."""
        sent = validated(SelectionSerializer(data=request.data))
        restored = trash.restore_selected(
            owner=caller(request), folder_ids=sent["folders"], file_ids=sent["files"]
        )
        return _counted(request, restored)


class TrashEmpty(ApiView):
    """The end of all that is in the trash."""

    @extend_schema(
        operation_id="trash_empty",
        summary="Empty the trash",
        tags=["Drive"],
        request=None,
        responses=CountSerializer,
    )
    def post(self, request: Request) -> Response:
        """Deletes all of it for good; nothing brings it back. A folder counts as one, whatever was in it."""
        return _counted(request, trash.empty_trash(owner=caller(request)))


def _selection(owner: User, sent: dict[str, list[object]]) -> Selection:
    return services.select(owner=owner, folder_ids=sent["folders"], file_ids=sent["files"])


def _counted(request: Request, count: int) -> Response:
    return row_response(request, {"count": count}, CountSerializer)
