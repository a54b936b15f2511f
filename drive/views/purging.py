"""Deleting for good. Nothing brings it back, so a page asks first."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from accounts.requests import SignedInRequest
from drive import purging
from drive.views.answers import done, trash_url


@login_required
@require_POST
def delete_forever(request: SignedInRequest) -> HttpResponse:
    """Ask about the chosen things (`root`) or, once `confirmed`, delete them."""
    roots = purging.roots_in_trash(owner=request.user, root_ids=request.POST.getlist("root"))
    if "confirmed" not in request.POST:
        return _ask(request, {"roots": roots, "count": len(roots)})
    return _deleted(request, purging.delete_forever(owner=request.user, root_ids=roots))


@login_required
@require_http_methods(["GET", "POST"])
def empty_trash(request: SignedInRequest) -> HttpResponse:
    """Ask about all that is in the trash or, once `confirmed`, delete it."""
    if "confirmed" not in request.POST:
        return _ask(request, {"count": purging.count_trash(owner=request.user)})
    return _deleted(request, purging.empty_trash(owner=request.user))


def _ask(request: SignedInRequest, context: dict[str, Any]) -> HttpResponse:
    return render(request, "drive/delete_forever.html", {**context, "action": request.path})


def _deleted(request: SignedInRequest, count: int) -> HttpResponse:
    text = ngettext("%(count)d item deleted forever.", "%(count)d items deleted forever.", count)
    return done(request, text % {"count": count}, back=trash_url())
