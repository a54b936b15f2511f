"""Pages of the trash: trash, restore, undo and permanent deletion."""

from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.requests import SignedInRequest
from drive.files import listing, quota, trash
from drive.views.edit import home_of
from drive.views.requests import ids, selection
from drive.views.responses import depends_on_htmx, done, folder_url, local, trash_url, trashed_at, undo_url
from ipau.common.errors import NotFound


@login_required
@require_POST
def delete_forever(request: SignedInRequest) -> HttpResponse:
    """Ask for confirmation, or permanently delete the selected items (`root`) if `confirmed`."""
    roots = trash.roots_in_trash(owner=request.user, root_ids=request.POST.getlist("root"))
    if "confirmed" not in request.POST:
        return _confirm(request, {"roots": roots, "count": len(roots)})
    return _deleted(request, trash.delete_forever(owner=request.user, root_ids=roots))


@login_required
@require_http_methods(["GET", "POST"])
def empty_trash(request: SignedInRequest) -> HttpResponse:
    """Ask for confirmation, or empty the trash if `confirmed`."""
    if "confirmed" not in request.POST:
        return _confirm(request, {"count": trash.count_trash(owner=request.user)})
    return _deleted(request, trash.empty_trash(owner=request.user))


def _confirm(request: SignedInRequest, context: dict[str, Any]) -> HttpResponse:
    return render(request, "drive/delete_forever.html", {**context, "action": request.path})


def _deleted(request: SignedInRequest, count: int) -> HttpResponse:
    text = ngettext("%(count)d item deleted forever.", "%(count)d items deleted forever.", count)
    return done(request, text % {"count": count}, back=trash_url())


@login_required
@require_POST
def trash_selection(request: SignedInRequest) -> HttpResponse:
    """Move the selection (`file`, `folder`) to the trash, then redirect to `then` or to its folder."""
    chosen = selection(request)
    undo = undo_url(trash.trash(owner=request.user, chosen=chosen))
    count = len(chosen)
    text = ngettext("%(count)d item moved to the trash.", "%(count)d items moved to the trash.", count)
    events = {"drive-gone": {"ids": ids(chosen)}}
    back = local(request, request.POST.get("then", "")) or folder_url(home_of(chosen))
    return done(request, text % {"count": count}, back=back, undo=undo, events=events)


@login_required
@require_POST
def undo_trash(request: SignedInRequest, at: int) -> HttpResponse:
    """Undo one move to the trash."""
    try:
        when = trashed_at(at)
    except OverflowError as error:
        raise NotFound(_("These items are no longer in the trash.")) from error
    count = trash.restore_batch(owner=request.user, trashed_at=when)
    return _restored(request, count, request.headers.get("Referer", ""), {"drive-changed": {}})


@login_required
@require_POST
def restore(request: SignedInRequest) -> HttpResponse:
    """Restore items (`root`) from the trash."""
    keys = request.POST.getlist("root")
    count = trash.restore(owner=request.user, root_ids=keys)
    return _restored(request, count, "", {"drive-gone": {"ids": keys}})


def _restored(request: SignedInRequest, count: int, back: str, events: dict[str, Any]) -> HttpResponse:
    text = ngettext("%(count)d item restored.", "%(count)d items restored.", count) % {"count": count}
    return done(request, text, back=local(request, back) or trash_url(), events=events)


@login_required
@require_safe
def trash_page(request: SignedInRequest) -> HttpResponse:
    """List the trash."""
    target = request.htmx.target if request.htmx else ""
    context: dict[str, Any] = {"section": "trash"}
    if target != "more-folders":
        context["files"] = listing.trashed_files(owner=request.user, cursor=request.GET.get("cursor"))
    if target != "more-files":
        context["folders"] = listing.trashed_folders(owner=request.user, cursor=request.GET.get("folders"))
    for page in ("files", "folders"):
        for row in context[page].rows if page in context else ():
            row.days_left = listing.days_left(row)
    context["trash_days"] = settings.TRASH_DAYS
    if target not in ("more-files", "more-folders", "listing"):
        context["usage"] = quota.usage_of(request.user)
    parts = {"more-files": "trash_files.html", "more-folders": "trash_folders.html"}
    parts["listing"] = "trash_listing.html"
    template = f"drive/{parts.get(target or '', 'trash.html')}"
    return depends_on_htmx(render(request, template, context))
