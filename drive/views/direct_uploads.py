"""JSON endpoints of direct uploads to the bucket, for the page's script."""

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
# 18 digits fit into a BIGINT column.
DIGITS = 18


def _json_errors(view: V) -> V:
    """Decorator that returns domain errors as JSON."""

    @wraps(view)
    def wrapper(request: SignedInRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except DomainError as error:
            return domain_problem(error, request.path).response()

    return cast("V", wrapper)


@login_required
@require_POST
@_json_errors
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
    return _state_response(upload, status=201)


@login_required
@never_cache
@require_safe
@_json_errors
def state(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Return the state of an upload."""
    return _state_response(direct.get_direct(owner=request.user, upload_id=upload_id))


@login_required
@require_POST
@_json_errors
def parts(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Return presigned URLs for the parts `number` (one or several).

    Returns {"parts": [{"number", "size", "url"}]}.
    """
    upload = direct.get_direct(owner=request.user, upload_id=upload_id)
    numbers = [_number(text) for text in request.POST.getlist("number")]
    signed = direct.sign_parts(upload=upload, numbers=numbers)
    return JsonResponse({"parts": [{"number": p.number, "size": p.size, "url": p.url} for p in signed]})


@login_required
@require_POST
@_json_errors
def finish(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Finish an upload after its last part."""
    upload = direct.get_direct(owner=request.user, upload_id=upload_id)
    return _state_response(direct.finish_upload(upload=upload), status=202)


@login_required
@require_POST
@_json_errors
def discard(request: SignedInRequest, upload_id: UUID) -> HttpResponse:
    """Delete an upload and its bytes. The file of a finished upload stays."""
    resumable.drop_upload(upload=direct.get_direct(owner=request.user, upload_id=upload_id))
    return HttpResponse(status=204)


def _state_response(upload: Upload, *, status: int = 200) -> JsonResponse:
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
    # A name without a path is repaired, not refused.
    base_name = name.replace("\\", "/").rsplit("/", 1)[-1]
    return clean_path(path or (base_name if base_name.strip(". ") else "file"))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise Invalid(_("This request is invalid: lengths and part numbers must be whole numbers."))
    return int(text)


def _on_conflict(request: HttpRequest) -> OnConflict:
    try:
        return OnConflict(request.POST.get("on_conflict") or OnConflict.KEEP_BOTH)
    except ValueError as error:
        raise Invalid(_("This request is invalid: unknown value of on_conflict.")) from error


def _key(request: HttpRequest) -> str:
    key = request.POST.get("key", "")
    if not 0 < len(key) <= 255:
        raise Invalid(_("This request is invalid: key must have 1 to 255 characters."))
    return key
