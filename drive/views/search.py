"""Search page, starred files, folder tree and the list of keyboard shortcuts."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import SignedInRequest
from drive.files import listing, services, update
from drive.files.search import find_files, find_folders
from drive.views.browse import any_pending, chosen_layout, chosen_sort
from drive.views.requests import selection
from drive.views.responses import add_toast, depends_on_htmx, done, folder_url, local
from drive.views.search_query import read_search

_PARTS = {"more-files": "more_files.html", "more-folders": "more_folders.html", "listing": "listing.html"}


@login_required
@require_safe
def search(request: SignedInRequest) -> HttpResponse:
    """Show matches of `q`, `kind`, `when` (with `first`, `last`), below the folder `in` if set."""
    return _found(request, "search")


@login_required
@require_safe
def starred(request: SignedInRequest) -> HttpResponse:
    """Show starred files, filtered by the fields of the search."""
    return _found(request, "starred")


def _found(request: SignedInRequest, section: str) -> HttpResponse:
    query = read_search(request, section)
    sort = chosen_sort(request)
    target = (request.htmx.target if request.htmx else "") or ""
    context: dict[str, Any] = {
        "section": section,
        "find": query.form,
        "within": query.within,
        "sort": sort,
        "sorts": listing.SORTS.values(),
        "layout": chosen_layout(request),
        "query": query.query,
        "opened_from": query.opened_from,
    }
    common: dict[str, Any] = {"owner": request.user, "filters": query.filters, "sort": sort}
    if target != "more-folders":
        context["files"] = find_files(**common, cursor=request.GET.get("cursor"))
        context["pending"] = any_pending(context["files"].rows)
    if target != "more-files":
        context["folders"] = find_folders(**common, cursor=request.GET.get("folders"))
    return depends_on_htmx(render(request, f"drive/{_PARTS.get(target, 'search_results.html')}", context))


@login_required
@require_POST
def star(request: SignedInRequest) -> HttpResponse:
    """Star (`?on=1`) or unstar (`?on=0`) the selected files; toggle them without `on`."""
    chosen = selection(request)
    requested = {"1": True, "0": False}.get(request.GET.get("on", ""))
    on = update.star_files(owner=request.user, chosen=chosen, on=requested)
    count = len(chosen.files)
    if on:
        text = ngettext("%(count)d file starred.", "%(count)d files starred.", count)
    else:
        text = ngettext("%(count)d file unstarred.", "%(count)d files unstarred.", count)
    text = text % {"count": count}
    if not request.htmx:
        back = local(request, request.headers.get("Referer", "")) or folder_url(chosen.files[0].folder_id)
        return done(request, text, back=back)
    for file in chosen.files:
        file.starred = on
    response = render(request, "drive/stars.html", {"files": chosen.files})
    return add_toast(response, text, events={"drive-starred": {}})


@login_required
@require_safe
def tree(request: SignedInRequest) -> HttpResponse:
    """Show the folders in `parent`; without it those at the top, expanded down to the folder `open`."""
    key = request.GET.get("parent", "")
    if key:
        parent = services.get_folder(owner=request.user, folder_id=key)
        nodes = listing.branches(owner=request.user, parents=[parent.pk]).get(parent.pk, [])
        return render(request, "drive/tree.html", {"nodes": nodes})
    here = request.GET.get("open", "")
    ancestors = services.ancestors_of(services.get_folder(owner=request.user, folder_id=here)) if here else []
    found = listing.branches(owner=request.user, parents=[None, *(step.pk for step in ancestors)])
    for nodes in found.values():
        for node in nodes:
            node.inside = found.get(node.pk)
    return render(request, "drive/tree.html", {"nodes": found.get(None, []), "here": here})


@login_required
@require_safe
def keys(request: SignedInRequest) -> HttpResponse:
    """List the keyboard shortcuts of the drive."""
    in_listing = [
        ("/", _("Search")),
        ("Ctrl A", _("Select all shown items")),
        ("Shift", _("With a click: select up to this item")),
        ("Ctrl", _("With a click: add this item to the selection")),
        ("Esc", _("Clear the selection")),
        ("Del", _("Move the selection to the trash")),
        ("?", _("This list")),
    ]
    in_file = [
        ("← →", _("Previous file, next file")),
        ("+ −", _("Zoom in, zoom out")),
        ("0 1", _("Fit the image, show it at 100 %")),
        ("F", _("Full screen")),
        ("I", _("Show or hide the details")),
        ("S", _("Star")),
        ("R F2", _("Rename")),
        ("D", _("Download")),
        ("M", _("Move")),
        ("Del", _("Move to the trash and open the next file")),
        ("Esc", _("Back to the folder")),
    ]
    groups = [(_("In a listing"), in_listing), (_("On a file’s page"), in_file)]
    part = "drive/keys.html#dialog" if request.htmx else "drive/keys.html"
    return depends_on_htmx(render(request, part, {"groups": groups}))
