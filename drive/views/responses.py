"""What the drive's pages answer with: notes with Undo, events for the page, parts of a template."""

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
# A toast with Undo does not outlive more moves than these.
_MOVES_KEPT = 3


def folder_url(folder_id: UUID | None) -> str:
    """Return the address of a folder's page; None is the top of the drive."""
    return reverse("drive:folder", args=[folder_id]) if folder_id else reverse("drive:root")


def file_url(file_id: UUID) -> str:
    """Return the address of a file's page."""
    return reverse("drive:file", args=[file_id])


def trash_url() -> str:
    """Return the address of the trash."""
    return reverse("drive:trash")


def undo_url(trashed_at: datetime) -> str:
    """Return the address that takes back what went into the trash at this time."""
    return reverse("drive:undo-trash", args=[(trashed_at - _EPOCH) // _MICROSECOND])


def trashed_at(microseconds: int) -> datetime:
    """Read the time out of an address of `undo_url`. Raises OverflowError for one beyond all calendars."""
    return _EPOCH + timedelta(microseconds=microseconds)


def keep_move(request: SignedInRequest, homes: Mapping[str, Any]) -> str:
    """Remember for this sitting where moved things lay; return the address that takes the move back."""
    key = uuid4()
    kept = {**request.session.get(_MOVES, {}), str(key): homes}
    request.session[_MOVES] = dict(list(kept.items())[-_MOVES_KEPT:])
    return reverse("drive:undo-move", args=[key])


def kept_move(request: SignedInRequest, move_id: UUID) -> Any:
    """Return where the things of a move lay. Raises NotFound for one that was forgotten."""
    homes = request.session.get(_MOVES, {}).get(str(move_id))
    if homes is None:
        raise NotFound(_("This move can no longer be taken back."))
    return homes


def note(
    response: HttpResponse, text: str, *, undo: str = "", events: Mapping[str, Any] | None = None
) -> HttpResponse:
    """Add a note to an answer to htmx, and events for the page's scripts."""
    toast = {"text": text, "level": "success", "undoUrl": undo}
    for name, detail in {"toast": toast, **(events or {})}.items():
        trigger_client_event(response, name, detail)
    return response


def done(
    request: SignedInRequest, text: str, *, back: str, undo: str = "", events: Mapping[str, Any] | None = None
) -> HttpResponse:
    """Say that something is done: to htmx by events, to everybody else on the page they go back to."""
    if request.htmx:
        response = HttpResponse(status=204)
        return note(response, text, undo=undo, events=events)
    messages.success(request, text, extra_tags=undo)
    return redirect(back)


def depends_on_htmx(response: HttpResponse) -> HttpResponse:
    """Keep browsers from showing a part of a page where the whole is asked for."""
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response


def local(request: HttpRequest, url: str) -> str:
    """Return the address if it leads to this site, else nothing."""
    fits = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return url if fits else ""


def wants_json(request: HttpRequest) -> bool:
    """Tell whether a script sent this, which reads JSON."""
    return "application/json" in request.headers.get("Accept", "")
