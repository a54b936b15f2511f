"""Looking: folders, the trash."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import SignedInRequest
from drive.files import listing, quota, services
from drive.models import File, FileState, Folder
from drive.uploads import s3_multipart
from drive.views.responses import depends_on_htmx
from drive.views.search_query import FindForm

LAYOUTS = ("grid", "list")


@login_required
@require_safe
def root(request: SignedInRequest) -> HttpResponse:
    """Show the top of the drive."""
    return _folder_page(request, None)


@login_required
@require_safe
def folder(request: SignedInRequest, folder_id: UUID) -> HttpResponse:
    """Show a folder."""
    return _folder_page(request, services.get_folder(owner=request.user, folder_id=folder_id))


def _folder_page(request: SignedInRequest, here: Folder | None) -> HttpResponse:
    """Answer with the page, its listing after a change, or the next tiles while somebody scrolls."""
    sort, layout = chosen_sort(request), chosen_layout(request)
    context: dict[str, Any] = {
        "folder": here,
        "room": "files",
        "find": FindForm(),
        "sort": sort,
        "sorts": listing.SORTS.values(),
        "layout": layout,
        "max_bytes": settings.RESUMABLE_MAX_BYTES,
        "direct_least": s3_multipart.LEAST_BYTES if s3_multipart.is_offered() else None,
    }
    target = request.htmx.target if request.htmx else ""
    if target != "more-folders":
        context["files"] = listing.files_in(
            owner=request.user, folder=here, sort=sort, cursor=request.GET.get("cursor")
        )
        context["pending"] = any_pending(context["files"].rows)
    if target != "more-files":
        context["folders"] = listing.folders_in(
            owner=request.user, parent=here, sort=sort, cursor=request.GET.get("folders")
        )
    if target not in ("more-files", "more-folders", "listing"):
        context["way"] = services.ancestors_of(here)
        context["usage"] = quota.usage_of(request.user)
    return depends_on_htmx(render(request, _folder_template(target), context))


def _folder_template(target: str | None) -> str:
    parts = {"more-files": "more_files.html", "more-folders": "more_folders.html", "listing": "listing.html"}
    return f"drive/{parts.get(target or '', 'folder.html')}"


@login_required
@require_POST
def states(request: SignedInRequest) -> HttpResponse:
    """Answer a page that waits for its new uploads with the tiles that are through with the check."""
    asked = request.POST.getlist("pending")
    found = listing.tiles(owner=request.user, file_ids=asked)
    waiting = [f for f in found if f.state == FileState.UPLOADED]
    if asked and len(waiting) == len(set(asked)):
        return HttpResponse(status=204)
    there = {str(f.pk) for f in found}
    context = {
        "files": [f for f in found if f.state != FileState.UPLOADED],
        "gone": [key for key in asked if key not in there],
        "pending": bool(waiting),
    }
    return render(request, "drive/states.html", context)


def chosen_sort(request: SignedInRequest) -> listing.Sort:
    """Return the order that the person chose here or, for this sitting, in another folder."""
    return listing.SORTS[remembered(request, "sort", listing.SORTS, listing.NEWEST.key)]


def chosen_layout(request: SignedInRequest) -> str:
    """Return how the person looks at listings: as a grid or a list."""
    return remembered(request, "view", LAYOUTS, "grid")


def remembered(request: SignedInRequest, name: str, choices: Any, default: str) -> str:
    """Return what an address asks for under `name` or, for this sitting, what the last one did."""
    key = f"drive_{name}"
    kept = str(request.session.get(key, default))
    asked = request.GET.get(name, kept)
    if asked not in choices:
        asked = default
    if asked != kept:
        request.session[key] = asked
    return asked


def any_pending(files: list[File]) -> bool:
    """Tell whether a worker has yet to look at one of these."""
    return any(f.state == FileState.UPLOADED for f in files)
