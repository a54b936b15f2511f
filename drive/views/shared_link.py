"""Pages of share links for visitors, without an account. Only links with a password use a cookie."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from allauth.account.adapter import get_adapter
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.cache import add_never_cache_headers
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_http_methods, require_safe

from drive.downloads import sanitized, zip_archives
from drive.downloads.responses import INLINE, serve, serve_archive, serve_sanitized
from drive.files import listing
from drive.files.listing import Steps, steps_from
from drive.files.services import Selection
from drive.formats.browser_support import is_web_picture
from drive.forms import PasswordForm
from drive.models import File, FileKind, FileState, Share
from drive.shares import services, visits
from drive.uploads import renditions
from ipau.common.errors import Invalid, RateLimited
from ipau.common.ids import as_uuid
from workers.thumbnail_sizes import THUMBNAIL_SIDE, VIEW_SIDE

KEY = "drive_shares"
# Links with a correct password that a session stores.
MOST_KEPT = 50
SORT = listing.SORTS["name"]

View = Callable[..., HttpResponseBase]


def _requires_access(view: View) -> View:
    """Decorator that passes the share to a view, or redirects to its password form."""

    @wraps(view)
    def wrapper(request: HttpRequest, token: str, **named: Any) -> HttpResponseBase:
        share = visits.find_share(token=token)
        if not _may_enter(request, share):
            return redirect("share:enter", token=token)
        return _private(view(request, share, **named))

    return wrapper


def _may_enter(request: HttpRequest, share: Share) -> bool:
    if not share.password:
        return True
    kept = request.session.get(KEY, {})
    return constant_time_compare(str(kept.get(str(share.pk), "")), visits.fingerprint(share))


def _private(response: HttpResponseBase) -> HttpResponseBase:
    """Keep the URL out of search engines, referrers and caches."""
    response["X-Robots-Tag"] = "noindex, nofollow"
    response.setdefault("Referrer-Policy", "no-referrer")
    if "Cache-Control" not in response:
        add_never_cache_headers(response)
    return response


@require_http_methods(["GET", "HEAD", "POST"])
def enter(request: HttpRequest, token: str) -> HttpResponseBase:
    """Show the shared file or folder, or the password form."""
    share = visits.find_share(token=token)
    if not _may_enter(request, share):
        return _private(_password_page(request, share))
    if request.method == "POST":
        return redirect("share:enter", token=token)
    if share.owner_id != getattr(request.user, "pk", None):
        visits.count_visit(share=share, visitor=f"{_address(request)} {request.headers.get('User-Agent')}")
    if share.file is not None:
        return _private(_file_page(request, share, share.file, []))
    return _private(_folder_page(request, share, None))


def _password_page(request: HttpRequest, share: Share) -> HttpResponseBase:
    form = PasswordForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST" and form.is_valid():
        try:
            proof = visits.enter_share(
                share=share, password=form.cleaned_data["password"], address=_address(request)
            )
        except (Invalid, RateLimited) as error:
            form.add_error("password", error.message)
            status = error.status
        else:
            kept = list(request.session.get(KEY, {}).items())[-MOST_KEPT:]
            request.session[KEY] = {**dict(kept), str(share.pk): proof}
            return redirect("share:enter", token=share.token)
    response = render(request, "drive/visit_password.html", {"form": form}, status=status)
    if status == RateLimited.status:
        response["Retry-After"] = str(visits.TRIES_SECONDS)
    # The CSRF check refuses forms without a referrer.
    response["Referrer-Policy"] = "same-origin"
    return response


def _address(request: HttpRequest) -> str:
    return str(get_adapter(request).get_client_ip(request))


@require_safe
@_requires_access
def folder(request: HttpRequest, share: Share, folder_id: UUID) -> HttpResponseBase:
    """Show a folder inside the shared one."""
    return _folder_page(request, share, folder_id)


def _folder_page(request: HttpRequest, share: Share, folder_id: UUID | None) -> HttpResponseBase:
    place = visits.place_in(share=share, folder_id=folder_id)
    services.refresh_views(share)
    context = {
        "share": share,
        "folder": place.folder,
        "ancestors": place.path,
        "files": listing.files_in(
            owner=share.owner, folder=place.folder, sort=SORT, cursor=request.GET.get("cursor")
        ),
        "folders": listing.folders_in(
            owner=share.owner, parent=place.folder, sort=SORT, cursor=request.GET.get("folders")
        ),
    }
    return render(request, "drive/visit_folder.html", context)


@require_safe
@_requires_access
def file(request: HttpRequest, share: Share, file_id: UUID) -> HttpResponseBase:
    """Show one file of a shared folder."""
    shown, ancestors = visits.file_in(share=share, file_id=file_id)
    return _file_page(request, share, shown, ancestors)


def _file_page(request: HttpRequest, share: Share, shown: File, ancestors: list[Any]) -> HttpResponseBase:
    rows = listing.rows_in(owner=share.owner, folder_id=shown.folder_id)
    steps = steps_from(shown, rows, SORT, pinned=listing.PINNED) if ancestors else Steps()
    ready = shown.state == FileState.READY
    context = {
        "share": share,
        "file": shown,
        "ancestors": ancestors,
        "before": steps.before,
        "after": steps.after,
        "is_picture": shown.kind == FileKind.PICTURE and ready,
        "is_video": shown.kind == FileKind.VIDEO and ready,
        "is_weights": shown.kind == FileKind.WEIGHTS,
        "is_text": shown.kind == FileKind.TEXT and (share.can_download or _is_shown(shown)),
        "is_pending": _is_pending(share, shown),
        "can_download": share.can_download and ready,
    }
    return render(request, "drive/visit_file.html", context)


def _is_pending(share: Share, shown: File) -> bool:
    """Return whether an image of a view-only link misses its rendition, and send a task for it."""
    if share.can_download or not renditions.is_missing(shown):
        return False
    services.refresh_views(share)
    return True


@require_safe
@_requires_access
def content(request: HttpRequest, share: Share, file_id: UUID) -> HttpResponseBase:
    """Send a file's content without metadata of its owner; `?download` sends it as an attachment.

    A view-only link sends images as renditions, videos and texts as shown, and nothing else.
    """
    shown, _way = visits.file_in(share=share, file_id=file_id)
    download = "download" in request.GET
    if shown.state != FileState.READY or not (share.can_download or (not download and _is_shown(shown))):
        raise visits.no_share()
    is_image = shown.kind == FileKind.PICTURE
    if is_image and not download and not (share.can_download and is_web_picture(shown.content_type)):
        return _rendition(request, share, shown)
    try:
        return serve_sanitized(
            request,
            shown.blob,
            kind=shown.kind,
            name=shown.name,
            content_type=shown.content_type,
            download=download,
        )
    except Invalid:
        if download or not is_image:
            raise
        return _rendition(request, share, shown)


def _is_shown(shown: File) -> bool:
    """Return whether browsers show this file in a page, so that a view-only link may send it."""
    return shown.kind == FileKind.PICTURE or shown.content_type in INLINE


def _rendition(request: HttpRequest, share: Share, shown: File) -> HttpResponseBase:
    """Send the largest rendition of a file."""
    for side in (VIEW_SIDE, THUMBNAIL_SIDE):
        rendition = listing.thumbnail_of(owner=share.owner, file_id=shown.pk, side=side)
        if rendition is not None:
            return serve(
                request,
                rendition.blob,
                name="preview.webp",
                content_type=rendition.blob.content_type,
                stream=True,
            )
    raise visits.no_share()


@require_safe
@_requires_access
def thumbnail(request: HttpRequest, share: Share, file_id: UUID, side: int) -> HttpResponseBase:
    """Send a thumbnail. Thumbnails have no metadata."""
    shown, _way = visits.file_in(share=share, file_id=file_id)
    rendition = listing.thumbnail_of(owner=share.owner, file_id=shown.pk, side=side)
    if rendition is None:
        raise visits.no_share()
    return serve(
        request, rendition.blob, name="thumbnail.webp", content_type=rendition.blob.content_type, stream=True
    )


@require_safe
@_requires_access
def download(request: HttpRequest, share: Share) -> HttpResponseBase:
    """Send the shared folder, or its subfolder `folder`, as a zip."""
    if not share.can_download or share.folder is None:
        raise visits.no_share()
    folder_id = request.GET.get("folder")
    place = visits.place_in(share=share, folder_id=as_uuid(folder_id) if folder_id else None)
    chosen = Selection((place.folder,), ())
    members = zip_archives.members_of(owner=share.owner, chosen=chosen)
    return serve_archive(sanitized.sanitized_archive(members), name=zip_archives.archive_name(chosen))
