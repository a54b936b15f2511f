"""Large files on their way from the page into the bucket: for the page's script, in JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import SignedInRequest
from drive.files import services
from drive.files.paths import UploadPath, clean_path
from drive.models import OnConflict, Upload
from drive.uploads import direct, resumable, s3_multipart
from drive.uploads.direct import Stage
from ipau.common.api.views import domain_problem
from ipau.common.errors import DomainError, Invalid

V = TypeVar("V", bound=Callable[..., HttpResponse])
# Eighteen digits: what the database can count.
DIGITS = 18


def _told(view: V) -> V:
    """Answer a domain error with its sentence, in JSON."""

    @wraps(view)
    def answer(request: SignedInRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except DomainError as error:
            return domain_problem(error, request.path).response()

    return cast("V", answer)


@login_required
@require_POST
@_told
def begin(request: SignedInRequest) -> HttpResponse:
    """Begin an upload of `length` bytes: `name`, or `path` below `folder`; `on_conflict`; `key`."""
    owner, folder_id = request.user, request.POST.get("folder")
    upload = direct.begin_direct(
        owner=owner,
        folder=services.get_folder(owner=owner, folder_id=folder_id) if folder_id else None,
        place=_place(request),
        length=_number(request.POST.get("length", "")),
        on_conflict=_on_conflict(request),
        key=_key(request),
    )
    return _answer(upload, status=201)


@login_required
@never_cache
@require_safe
@_told
def state(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Tell how far an upload is."""
    return _answer(direct.get_direct(owner=request.user, upload_id=upload_id))


@login_required
@require_POST
@_told
def parts(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Tell where to PUT the parts `number` (one or several): {"parts": [{"number", "size", "url"}]}."""
    upload = direct.get_direct(owner=request.user, upload_id=upload_id)
    numbers = [_number(text) for text in request.POST.getlist("number")]
    signed = direct.sign_parts(upload=upload, numbers=numbers)
    return JsonResponse({"parts": [{"number": p.number, "size": p.size, "url": p.url} for p in signed]})


@login_required
@require_POST
@_told
def finish(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Say that all parts are there."""
    upload = direct.get_direct(owner=request.user, upload_id=upload_id)
    return _answer(direct.finish_upload(upload=upload), status=202)


@login_required
@require_POST
@_told
def discard(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Give an upload up, with all that was sent. The file of a finished one stays."""
    resumable.drop_upload(upload=direct.get_direct(owner=request.user, upload_id=upload_id))
    return HttpResponse(status=204)


def _answer(upload: Upload, *, status: int = 200) -> JsonResponse:
    stage = direct.stage_of(upload)
    body = {
        "id": str(upload.pk),
        "stage": stage,
        "part_size": upload.part_size,
        "parts": len(s3_multipart.sizes_of(upload)),
        "received": direct.received(upload) if stage == Stage.RECEIVING else [],
        "file": str(upload.file_id) if upload.file_id else None,
        "reason": upload.reason,
    }
    return JsonResponse(body, status=status)


def _place(request: HttpRequest) -> UploadPath:
    name, path = request.POST.get("name", ""), request.POST.get("path", "")
    # A name alone leads nowhere: an odd one is mended.
    alone = name.replace("\\", "/").rsplit("/", 1)[-1]
    return clean_path(path or (alone if alone.strip(". ") else "file"))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise Invalid(_("This request cannot be read."))
    return int(text)


def _on_conflict(request: HttpRequest) -> OnConflict:
    try:
        return OnConflict(request.POST.get("on_conflict") or OnConflict.KEEP_BOTH)
    except ValueError as error:
        raise Invalid(_("This request cannot be read.")) from error


def _key(request: HttpRequest) -> str:
    key = request.POST.get("key", "")
    if not 0 < len(key) <= 255:
        raise Invalid(_("This request cannot be read."))
    return key
