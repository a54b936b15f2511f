"""Content of files and thumbnails, for their owner."""

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
    """Send a file's content; `?download` sends it as an attachment. Refused files are always attachments."""
    file = services.get_file(owner=request.user, file_id=file_id)
    download = "download" in request.GET or file.state == FileState.REFUSED
    return serve(request, file.blob, name=file.name, content_type=file.content_type, download=download)


@login_required
@require_safe
def thumbnail(request: SignedInRequest, file_id: UUID, side: int) -> HttpResponseBase:
    """Send a thumbnail, also of a trashed file. With its digest as `v` it can be cached permanently."""
    thumbnail_row = listing.thumbnail_of(owner=request.user, file_id=file_id, side=side)
    if thumbnail_row is None:
        raise NotFound(_("This thumbnail does not exist."))
    version = request.GET.get("v", "")
    has_digest = len(version) >= 12 and thumbnail_row.blob_id.startswith(version)
    # No redirect to the bucket: presigned URLs differ each time, so browsers could not cache the image.
    return serve(
        request,
        thumbnail_row.blob,
        name="thumbnail.webp",
        content_type=thumbnail_row.blob.content_type,
        stream=True,
        immutable=has_digest,
    )
