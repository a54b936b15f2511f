"""Folder pages, polling of new files, and the stored sort order and layout."""

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
    """Return the page, its listing after a change, or the next tiles on scrolling."""
    sort, layout = chosen_sort(request), chosen_layout(request)
    context: dict[str, Any] = {
        "folder": here,
        "section": "files",
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
        context["ancestors"] = services.ancestors_of(here)
        context["usage"] = quota.usage_of(request.user)
    return depends_on_htmx(render(request, _folder_template(target), context))


def _folder_template(target: str | None) -> str:
    parts = {"more-files": "more_files.html", "more-folders": "more_folders.html", "listing": "listing.html"}
    return f"drive/{parts.get(target or '', 'folder.html')}"


@login_required
@require_POST
def states(request: SignedInRequest) -> HttpResponse:
    """Return the tiles of pending uploads (`pending`) that have been checked; 204 if none has."""
    asked = request.POST.getlist("pending")
    found = listing.tiles(owner=request.user, file_ids=asked)
    waiting = [f for f in found if f.state == FileState.UPLOADED]
    if asked and len(waiting) == len(set(asked)):
        return HttpResponse(status=204)
    existing = {str(f.pk) for f in found}
    context = {
        "files": [f for f in found if f.state != FileState.UPLOADED],
        "gone": [key for key in asked if key not in existing],
        "pending": bool(waiting),
    }
    return render(request, "drive/states.html", context)


def chosen_sort(request: SignedInRequest) -> listing.Sort:
    """Return the sort order of the request, or of the session."""
    return listing.SORTS[remembered(request, "sort", listing.SORTS, listing.NEWEST.key)]


def chosen_layout(request: SignedInRequest) -> str:
    """Return the layout of listings: grid or list."""
    return remembered(request, "view", LAYOUTS, "grid")


def remembered(request: SignedInRequest, name: str, choices: Any, default: str) -> str:
    """Return the query parameter `name`, or its last value in this session."""
    key = f"drive_{name}"
    stored = str(request.session.get(key, default))
    asked = request.GET.get(name, stored)
    if asked not in choices:
        asked = default
    if asked != stored:
        request.session[key] = asked
    return asked


def any_pending(files: list[File]) -> bool:
    """Return whether a file is not checked yet."""
    return any(f.state == FileState.UPLOADED for f in files)
