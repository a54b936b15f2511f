"""Upload of files by form, conflict check and tiles of new files.

A request has one file from a script, or several from a form. The page's own script uploads through
`drive.api.uploads`, and uses the conflict check and the tiles.
"""

from __future__ import annotations

from typing import BinaryIO, cast
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import SignedInRequest
from drive.files import listing, quota, services
from drive.files.paths import find_clashes
from drive.models import File, Folder
from drive.uploads import services as uploads_services
from drive.uploads.resumable import drop_upload
from drive.uploads.services import get_unfinished
from drive.views.responses import folder_url, wants_json
from ipau.common.api.views import domain_problem
from ipau.common.errors import DomainError, Invalid, NotFound, TooLarge
from ipau.common.http.middleware import ENVELOPE
from ipau.common.strict_json import UnreadableJSON, read_json


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponseBase:
    """Upload `file` (one or several) into `folder` (default: the top of the drive).

    Returns JSON, 201 with the file and its tile, if the client accepts it. The CSRF token is checked after
    the size, because checking it reads the whole request.
    """
    if _length(request) > settings.UPLOAD_MAX_BYTES + ENVELOPE:
        limit = settings.UPLOAD_MAX_BYTES // 2**20
        error = TooLarge(_("This upload is too large. The limit is %(limit)d MB.") % {"limit": limit})
        return _refused(request, error)
    if request.user.is_authenticated and _length(request) > ENVELOPE:
        try:
            quota.check_room(owner=request.user, size=_length(request) - ENVELOPE)
        except TooLarge as error:
            return _refused(request, error)
    return _upload(request)  # type: ignore[arg-type]  # its decorators require a signed-in user


def _length(request: HttpRequest) -> int:
    """Return Content-Length in bytes."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _refused(request: HttpRequest, error: DomainError) -> HttpResponse:
    if wants_json(request):
        return domain_problem(error, request.path).response()
    return _to_page(request, error)


def _to_page(request: HttpRequest, error: DomainError) -> HttpResponse:
    messages.error(request, error.message)
    return redirect("drive:root")


@require_POST
@csrf_protect
@login_required
def _upload(request: SignedInRequest) -> HttpResponseBase:
    sent = request.FILES.getlist("file")
    if not wants_json(request):
        return _take_all(request, sent)
    try:
        folder = _destination(request)
        if len(sent) != 1:
            raise Invalid(_("Choose a file."), code="no_file")
        file = _take(request, folder, sent[0])
    except DomainError as error:
        return domain_problem(error, request.path).response()
    return JsonResponse(_description(request, file), status=201)


def _destination(request: SignedInRequest) -> Folder | None:
    folder_id = request.POST.get("folder")
    return services.get_folder(owner=request.user, folder_id=folder_id) if folder_id else None


def _take(request: SignedInRequest, folder: Folder | None, sent: UploadedFile[bytes]) -> File:
    bytes_sent = cast(BinaryIO, sent.file)
    return uploads_services.upload_file(
        owner=request.user, folder=folder, name=sent.name or "", content=bytes_sent, size=sent.size or 0
    )


def _take_all(request: SignedInRequest, sent: list[UploadedFile[bytes]]) -> HttpResponse:
    """Upload all files of a form, and show the result of each on the next page."""
    folder = _destination(request)
    taken = 0
    for one in sent:
        try:
            _take(request, folder, one)
        except DomainError as error:
            messages.error(request, f"{one.name}: {error.message}")
        else:
            taken += 1
    if taken:
        text = ngettext("%(count)d file uploaded.", "%(count)d files uploaded.", taken)
        messages.success(request, text % {"count": taken})
    elif not sent:
        messages.error(request, _("Choose a file."))
    return redirect(folder_url(folder.pk if folder else None))


def _description(request: SignedInRequest, file: File) -> dict[str, str]:
    return {
        "id": str(file.pk),
        "name": file.name,
        "state": file.state,
        "url": reverse("drive:file", args=[file.pk]),
        "tile": _tile(request, file.pk),
    }


def _tile(request: SignedInRequest, file_id: UUID) -> str:
    shown = listing.tiles(owner=request.user, file_ids=[file_id])[0]
    return render_to_string("drive/uploaded.html", {"files": [shown], "pending": True}, request)


@login_required
@require_safe
def tiles(request: SignedInRequest) -> HttpResponse:
    """Return the tiles of new files (`file`)."""
    found = listing.tiles(owner=request.user, file_ids=request.GET.getlist("file"))
    if not found:
        raise NotFound(_("This file does not exist."))
    return render(request, "drive/uploaded.html", {"files": found, "pending": True})


@login_required
@require_POST
def clashes(request: SignedInRequest) -> JsonResponse:
    """Return those of `paths` (a JSON list), below `folder`, that are taken: {"taken": [...]}."""
    folder = _destination(request)
    try:
        paths = read_json(request.POST.get("paths", ""))
    except UnreadableJSON as error:
        raise Invalid(_("This request is invalid: paths is not JSON.")) from error
    if not isinstance(paths, list):
        raise Invalid(_("This request is invalid: paths must be a list."))
    taken = find_clashes(owner=request.user, folder=folder, paths=[p for p in paths if isinstance(p, str)])
    return JsonResponse({"taken": taken})


@login_required
@require_POST
def give_up(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Delete an unfinished upload and its bytes."""
    upload = get_unfinished(owner=request.user, upload_id=upload_id)
    drop_upload(upload=upload)
    messages.success(request, _("The upload of “%(name)s” was deleted.") % {"name": upload.name})
    return redirect("home")
