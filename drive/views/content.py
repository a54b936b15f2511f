"""The bytes of files and thumbnails, for whoever owns them."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpResponseBase
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.requests import SignedInRequest
from drive.downloads.responses import serve
from drive.files import listing, services
from drive.models import FileState
from ipau.common.errors import NotFound


@login_required
@require_safe
def content(request: SignedInRequest, file_id: UUID) -> HttpResponseBase:
    """Send a file's bytes; `?download` offers them for saving. Refused ones can only be saved."""
    file = services.get_file(owner=request.user, file_id=file_id)
    download = "download" in request.GET or file.state == FileState.REFUSED
    return serve(request, file.blob, name=file.name, content_type=file.content_type, download=download)


@login_required
@require_safe
def thumbnail(request: SignedInRequest, file_id: UUID, side: int) -> HttpResponseBase:
    """Send a thumbnail, also of a file in the trash. With its digest as `v` it may be kept for good."""
    made = listing.thumbnail_of(owner=request.user, file_id=file_id, side=side)
    if made is None:
        raise NotFound(_("There is no such picture."))
    version = request.GET.get("v", "")
    named = len(version) >= 12 and made.blob_id.startswith(version)
    # Never by way of a bucket: its addresses change each time, so that no browser could keep the picture.
    return serve(
        request,
        made.blob,
        name="thumbnail.webp",
        content_type=made.blob.content_type,
        stream=True,
        immutable=named,
    )
