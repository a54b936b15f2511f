"""Responses of the drive's pages: toasts with Undo, htmx events, redirects and URLs."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django_htmx.http import trigger_client_event

from accounts.requests import SignedInRequest
from ipau.common.errors import NotFound

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOVES = "drive_moves"
# Moves of a session that can be undone.
MOST_MOVES = 3


def folder_url(folder_id: UUID | None) -> str:
    """Return the URL of a folder's page; None: the top of the drive."""
    return reverse("drive:folder", args=[folder_id]) if folder_id else reverse("drive:root")


def file_url(file_id: UUID) -> str:
    """Return the URL of a file's page."""
    return reverse("drive:file", args=[file_id])


def trash_url() -> str:
    """Return the URL of the trash."""
    return reverse("drive:trash")


def undo_url(trashed_at: datetime) -> str:
    """Return the URL that restores the items trashed at this time."""
    return reverse("drive:undo-trash", args=[(trashed_at - _EPOCH) // _MICROSECOND])


def trashed_at(microseconds: int) -> datetime:
    """Parse the time in a URL of `undo_url`. Raises OverflowError if it is out of range."""
    return _EPOCH + timedelta(microseconds=microseconds)


def store_move(request: SignedInRequest, folders: Mapping[str, Any]) -> str:
    """Store the original folders of moved items in the session; return the URL that undoes the move."""
    key = uuid4()
    moves = {**request.session.get(_MOVES, {}), str(key): folders}
    request.session[_MOVES] = dict(list(moves.items())[-MOST_MOVES:])
    return reverse("drive:undo-move", args=[key])


def load_move(request: SignedInRequest, move_id: UUID) -> Any:
    """Return the original folders of a move. Raises NotFound if the session no longer has it."""
    folders = request.session.get(_MOVES, {}).get(str(move_id))
    if folders is None:
        raise NotFound(_("This move can no longer be undone."))
    return folders


def add_toast(
    response: HttpResponse, text: str, *, undo: str = "", events: Mapping[str, Any] | None = None
) -> HttpResponse:
    """Add a toast to an htmx response, and events for the page's scripts."""
    toast = {"text": text, "level": "success", "undoUrl": undo}
    for name, detail in {"toast": toast, **(events or {})}.items():
        trigger_client_event(response, name, detail)
    return response


def done(
    request: SignedInRequest, text: str, *, back: str, undo: str = "", events: Mapping[str, Any] | None = None
) -> HttpResponse:
    """Return a success message: as htmx events, or as a message after a redirect to `back`."""
    if request.htmx:
        response = HttpResponse(status=204)
        return add_toast(response, text, undo=undo, events=events)
    messages.success(request, text, extra_tags=undo)
    return redirect(back)


def depends_on_htmx(response: HttpResponse) -> HttpResponse:
    """Vary the cache by htmx headers, so that browsers never show a fragment as a page."""
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response


def local(request: HttpRequest, url: str) -> str:
    """Return the URL if it is on this site, otherwise ""."""
    is_local = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return url if is_local else ""


def wants_json(request: HttpRequest) -> bool:
    """Return whether the client accepts JSON, as the page's scripts do."""
    return "application/json" in request.headers.get("Accept", "")
