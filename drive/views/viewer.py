"""File viewer: large image, comparison with its source, previous and next file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe
from django_htmx.http import replace_url

from accounts.requests import SignedInRequest
from drive.files import listing, services
from drive.files.listing import Steps, steps_from
from drive.files.origin import Origin, origin_of
from drive.files.search import matching_files
from drive.formats.browser_support import is_web_picture
from drive.models import File, FileKind, FileState, Thumbnail
from drive.shares import services as shares
from drive.views.browse import chosen_sort, remembered
from drive.views.responses import depends_on_htmx, file_url, folder_url
from drive.views.search_query import SECTIONS, Search, read_search
from workers.thumbnail_sizes import VIEW_SIDE

# Views of a result: alone, its original alone, or both.
LOOKS = {
    "result": _("Result"),
    "original": _("Original"),
    "compare": _("Compare"),
    "side": _("Side by side"),
}
ALONE = "result"


@dataclass(frozen=True)
class ViewerImage:
    """URLs of an image in the viewer: `src` is shown first, `full` ("" if equal) on zooming in."""

    file: File
    src: str
    full: str


@login_required
@require_safe
def file(request: SignedInRequest, file_id: UUID) -> HttpResponse:
    """Show one file. `from` and the fields of a search name the listing that it was opened from."""
    shown = services.get_file(owner=request.user, file_id=file_id)
    ancestors = services.ancestors_of(shown.folder)
    search = read_search(request, request.GET["from"]) if request.GET.get("from") in SECTIONS else None
    steps = _steps(request, shown, search)
    opened_from = search.opened_from if search else ""
    onward = steps.after or steps.before
    context = {
        "file": shown,
        "ancestors": ancestors,
        "steps": steps,
        "opened_from": opened_from,
        "self_url": f"{file_url(shown.pk)}{opened_from}{'&' if opened_from else '?'}",
        "following": file_url(onward) + opened_from if onward else "",
        "back": _back(shown, search, steps),
        "shares": shares.open_shares_reaching(owner=request.user, file=shown, ancestors=ancestors),
        "refused": shown.state == FileState.REFUSED,
        "waiting": shown.state == FileState.UPLOADED,
        "is_picture": shown.kind == FileKind.PICTURE,
        **_sights(request, shown, origin_of(owner=request.user, file=shown)),
    }
    inside = request.htmx.target == "viewer"
    response = render(request, "drive/viewer.html" if inside else "drive/file.html", context)
    if inside:
        replace_url(response, file_url(shown.pk) + opened_from)
    add_never_cache_headers(response)
    return depends_on_htmx(response)


def _steps(request: SignedInRequest, shown: File, search: Search | None) -> Steps:
    sort = chosen_sort(request)
    if search is not None:
        return steps_from(shown, matching_files(owner=request.user, filters=search.filters), sort)
    rows = listing.rows_in(owner=request.user, folder_id=shown.folder_id)
    return steps_from(shown, rows, sort, pinned=listing.PINNED)


def _back(shown: File, search: Search | None, steps: Steps) -> str:
    """Return the URL of the file in the listing that it was opened from, with the focus on it."""
    page = reverse(f"drive:{search.section}") if search else folder_url(shown.folder_id)
    query = search.query if search else ""
    if steps.cursor:
        query += urlencode({"cursor": steps.cursor})
    return f"{page}{'?' if query else ''}{query.rstrip('&')}#open-{shown.pk}"


def _sights(request: SignedInRequest, shown: File, origin: Origin | None) -> dict[str, Any]:
    """Return the images for the viewer: the file, its source, and the selected view."""
    source = origin.source if origin and origin.is_source_live else None
    files = [file for file in (shown, source) if file and file.kind == FileKind.PICTURE]
    pictures = _pictures(files)
    both = len(pictures) == 2
    original = pictures.get(source.pk) if source and both else None
    return {
        "origin": origin,
        "picture": pictures.get(shown.pk),
        "original": original,
        "pair": [original, pictures.get(shown.pk)],
        "looks": LOOKS.items(),
        "look": remembered(request, "look", LOOKS, ALONE) if both else ALONE,
    }


def _pictures(files: Sequence[File]) -> dict[UUID, ViewerImage]:
    """Return the images that can be shown, by file id. One query."""
    thumbnails = listing.largest_thumbnails(blob_ids=[file.blob_id for file in files])
    found = {file.pk: _picture(file, thumbnails.get(file.blob_id)) for file in files}
    return {key: picture for key, picture in found.items() if picture}


def _picture(file: File, thumbnail: Thumbnail | None) -> ViewerImage | None:
    if file.state == FileState.REFUSED:
        return None
    content = reverse("drive:content", args=[file.pk]) if is_web_picture(file.content_type) else ""
    if thumbnail is None:
        return ViewerImage(file, content, "") if content else None
    address = reverse("drive:thumbnail", args=[file.pk, thumbnail.side])
    view = f"{address}?{urlencode({'v': thumbnail.blob_id[:16]})}"
    # Do not enlarge a small thumbnail, and do not use one that is hardly smaller than the original.
    is_large = max(file.width or 0, file.height or 0) > VIEW_SIDE
    if content and (thumbnail.side < VIEW_SIDE or not is_large):
        return ViewerImage(file, content, "")
    return ViewerImage(file, view, content)
