"""Pages where owners create, list, change and revoke share links."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.requests import SignedInRequest
from drive.files import quota, services
from drive.forms import ShareChangeForm, ShareForm
from drive.models import File, Folder, Share
from drive.shares import services as shares
from drive.views.responses import depends_on_htmx, done
from ipau.common.errors import DomainError, NotFound
from ipau.common.paging import paginate

PAGE = 50


def link_to(request: SignedInRequest, share: Share) -> str:
    """Return the absolute URL of a link for visitors."""
    return request.build_absolute_uri(shares.path_of(share))


@login_required
@require_http_methods(["GET", "POST"])
def share(request: SignedInRequest) -> HttpResponse:
    """Show the form that shares a `file` or `folder`, or create the link."""
    sent = request.POST if request.method == "POST" else request.GET
    target: dict[str, Any] = {"folder_id": sent.get("folder"), "file_id": sent.get("file")}
    shown = _target(request, **target)
    form = ShareForm(request.POST if request.method == "POST" else None)
    context: dict[str, Any] = {"form": form, "shown": shown, "is_folder": isinstance(shown, Folder)}
    if request.method == "POST" and form.is_valid():
        made = shares.create_share(owner=request.user, **target, **form.terms())
        if not request.htmx:
            messages.success(request, _("“%(name)s” is shared. Copy its link below.") % {"name": shown.name})
            return redirect("drive:shared")
        context |= {"made": made, "link": link_to(request, made)}
    return _dialog(request, "drive/share.html", context)


def _target(request: SignedInRequest, *, folder_id: object, file_id: object) -> File | Folder:
    if folder_id:
        return services.get_folder(owner=request.user, folder_id=folder_id)
    if file_id:
        return services.get_file(owner=request.user, file_id=file_id)
    raise NotFound(_("This file or folder does not exist."))


@login_required
@require_safe
def shared(request: SignedInRequest) -> HttpResponse:
    """List the links, latest first."""
    rows = shares.shares_of(owner=request.user)
    page = paginate(rows, order=("-id",), size=PAGE, cursor=request.GET.get("cursor"))
    links = [(row, link_to(request, row)) for row in page.rows]
    context = {"page": page, "links": links, "usage": quota.usage_of(request.user)}
    return depends_on_htmx(render(request, "drive/shared.html", context))


@login_required
@require_http_methods(["GET", "POST"])
def change(request: SignedInRequest, share_id: UUID) -> HttpResponse:
    """Show the form that changes a link, or change it."""
    row = shares.get_share(owner=request.user, share_id=share_id)
    sent = request.POST if request.method == "POST" else None
    initial = {"can_download": row.can_download, "label": row.label, "lifetime": "keep"}
    form = ShareChangeForm(sent, initial=initial, has_password=bool(row.password))
    if request.method == "POST" and form.is_valid():
        try:
            shares.change_share(owner=request.user, share_id=share_id, **form.changes())
        except NotFound:
            raise
        except DomainError as error:
            form.add_error(None, error.message)
        else:
            events: dict[str, Any] = {"drive-done": {}, "drive-changed": {}}
            return done(request, _("Link changed."), back=reverse("drive:shared"), events=events)
    context = {"form": form, "share": row, "shown": row.file or row.folder}
    return _dialog(request, "drive/share_change.html", context)


@login_required
@require_POST
def revoke(request: SignedInRequest, share_id: UUID) -> HttpResponse:
    """Revoke a link permanently."""
    shares.revoke_share(owner=request.user, share_id=share_id)
    events: dict[str, Any] = {"drive-changed": {}}
    return done(request, _("Link revoked."), back=reverse("drive:shared"), events=events)


def _dialog(request: SignedInRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    part = f"{template}#dialog" if request.htmx else template
    return depends_on_htmx(render(request, part, context))
