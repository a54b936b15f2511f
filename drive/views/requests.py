"""Selected files and folders of a page's request."""

from accounts.requests import SignedInRequest
from drive.files import services
from drive.files.services import Selection


def selection(request: SignedInRequest) -> Selection:
    """Return the selection of the parameters `folder` and `file`. Raises as `services.select`."""
    sent = request.POST if request.method == "POST" else request.GET
    return services.select(
        owner=request.user, folder_ids=sent.getlist("folder"), file_ids=sent.getlist("file")
    )


def ids(chosen: Selection) -> list[str]:
    return [str(row.pk) for row in (*chosen.folders, *chosen.files)]
