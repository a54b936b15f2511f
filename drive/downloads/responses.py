"""The only place that hands stored bytes to a browser. Its callers have checked whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotModified,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.utils.cache import patch_cache_control
from django.utils.http import content_disposition_header, parse_etags, quote_etag

from drive.downloads.sanitized import AS_THEY_ARE, copy_of, plan_copy
from drive.files.names import upload_name
from drive.formats.browser_support import VIDEOS, WEB_PICTURES
from drive.models import Blob
from ipau.common.http import concurrency

INLINE = WEB_PICTURES | VIDEOS | {"text/plain"}
CHUNK = 256 * 1024
# Fewer bytes come from the bucket in a moment.
LARGE_BYTES = 1024 * 1024
# A presigned address is followed at once; it need not outlive a slow start of the download.
PRESIGNED_SECONDS = 300
YEAR = 365 * 24 * 3600
# No file has more bytes than 18 digits tell; what does not match is ignored, as the standard wants.
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def serve(
    request: HttpRequest,
    blob: Blob,
    *,
    name: str,
    content_type: str,
    download: bool = False,
    stream: bool = False,
    immutable: bool = False,
) -> HttpResponseBase:
    """Answer with the bytes of a blob.

    Args:
        name: what a browser shall call the file.
        download: offer it for saving even if it could be shown.
        stream: send the bytes from here, not by way of the bucket, for clients that follow no redirect.
        immutable: the address names the digest, so that a browser need never ask again.
    """
    headers = _Headers(name, content_type, download)
    if _is_bucket() and not stream and not settings.ACCEL_PREFIX:
        # Not to be kept: the address that it leads to expires.
        return HttpResponseRedirect(_presigned(blob, headers), headers={"Cache-Control": "no-store"})
    etag = quote_etag(blob.sha256)
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        response: HttpResponseBase = HttpResponseNotModified()
    else:
        response = _answer(request, blob)
        headers.put_on(response)
    response["ETag"] = etag
    if immutable:
        patch_cache_control(response, private=True, max_age=YEAR, immutable=True)
    else:
        patch_cache_control(response, private=True, no_cache=True)
    return response


def serve_for_others(
    request: HttpRequest, blob: Blob, *, kind: str, name: str, content_type: str, download: bool = False
) -> HttpResponseBase:
    """Answer a visitor with a file's bytes, freed of all that tells of their owner.

    Raises:
        Invalid: they cannot be freed of it.
    """
    if kind in AS_THEY_ARE:
        return serve(request, blob, name=name, content_type=content_type, download=download, stream=True)
    etag = quote_etag(f"{blob.sha256}-clean")
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        response: HttpResponseBase = HttpResponseNotModified()
    else:
        response = _send_copy(request, blob, etag)
        _Headers(name, content_type, download).put_on(response)
    response["ETag"] = etag
    patch_cache_control(response, private=True, no_cache=True)
    return response


def serve_archive(pieces: Iterable[bytes], *, name: str, size: int | None = None) -> HttpResponseBase:
    """Send a zip while it is being made; `size` is its length, where that is known.

    Where bytes turn out to be missing in the middle, the iterator raises and the server cuts the connection:
    a browser then shows a failed download, never a short archive.
    """
    response = StreamingHttpResponse(pieces)
    if _is_bucket():
        concurrency.hold_for(response)
    _Headers(name, "application/zip", download=True).put_on(response)
    if size is not None:
        response["Content-Length"] = str(size)
    response["Cache-Control"] = "private, no-store"
    return response


class _Headers:
    """What the bytes are called and declared as."""

    def __init__(self, name: str, content_type: str, download: bool):
        # Anything that a browser might run, or cannot show, is only ever saved.
        saved = download or content_type not in INLINE
        self.disposition = content_disposition_header(saved, upload_name(name, "")) or "attachment"
        self.content_type = "text/plain; charset=utf-8" if content_type == "text/plain" else content_type

    def put_on(self, response: HttpResponseBase) -> None:
        response["Content-Type"] = self.content_type
        response["Content-Disposition"] = self.disposition
        response["X-Content-Type-Options"] = "nosniff"
        # Even opened as a page of its own, nothing in these bytes may run or load.
        response["Content-Security-Policy"] = "default-src 'none'; sandbox"
        response["Cross-Origin-Resource-Policy"] = "same-origin"


def _answer(request: HttpRequest, blob: Blob) -> HttpResponseBase:
    if not settings.ACCEL_PREFIX:
        return _send(request, blob)
    # nginx takes type, disposition and caching from here; it adds the safety headers itself.
    response = HttpResponse()
    response["X-Accel-Redirect"] = f"{settings.ACCEL_PREFIX.rstrip('/')}/{blob.path}"
    return response


def _is_bucket() -> bool:
    return hasattr(default_storage, "querystring_auth")


def _presigned(blob: Blob, headers: _Headers) -> str:
    parameters = {
        "ResponseContentDisposition": headers.disposition,
        "ResponseContentType": headers.content_type,
    }
    # Only the storage of a bucket takes these.
    url: str = default_storage.url(  # type: ignore[call-arg]  # S3's takes more
        blob.path, parameters=parameters, expire=PRESIGNED_SECONDS
    )
    return url


def _send(request: HttpRequest, blob: Blob) -> HttpResponseBase:
    span = _wanted_span(request, blob.size, quote_etag(blob.sha256))
    if span is None:
        response: HttpResponseBase = FileResponse(default_storage.open(blob.path), content_type="x/x")
        response["Content-Length"] = str(blob.size)
    elif span.start >= span.stop:
        response = _no_such_part(blob.size)
    else:
        content = default_storage.open(blob.path)
        response = StreamingHttpResponse(_pieces(content, span), status=206)
        _say_part(response, span, blob.size)
    response["Accept-Ranges"] = "bytes"
    _limit(response)
    return response


def _send_copy(request: HttpRequest, blob: Blob, etag: str) -> HttpResponseBase:
    """Send the copy that others may have, or the part of it that was asked for: players ask for parts."""
    plan = plan_copy(blob)
    span = _wanted_span(request, plan.size, etag)
    if span is None:
        response: HttpResponseBase = StreamingHttpResponse(copy_of(blob, plan))
        response["Content-Length"] = str(plan.size)
    elif span.start >= span.stop:
        response = _no_such_part(plan.size)
    else:
        response = StreamingHttpResponse(copy_of(blob, plan.cut(span)), status=206)
        _say_part(response, span, plan.size)
    response["Accept-Ranges"] = "bytes"
    _limit(response)
    return response


def _limit(response: HttpResponseBase) -> None:
    """Count bytes that come from the bucket as a wait: the bucket may stop answering between two pieces.

    A client that reads slowly holds no thread (`ipau.web`), so bytes of a folder are not limited.
    """
    if response.streaming and _is_bucket():
        is_large = int(response.get("Content-Length", "0")) > LARGE_BYTES
        concurrency.hold_for(response, is_short=not is_large)


def _no_such_part(size: int) -> HttpResponse:
    response = HttpResponse(status=416)
    response["Content-Range"] = f"bytes */{size}"
    return response


def _say_part(response: HttpResponseBase, span: range, size: int) -> None:
    response["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    response["Content-Length"] = str(len(span))


def _wanted_span(request: HttpRequest, size: int, etag: str) -> range | None:
    """Return the bytes that were asked for; None: all of them; an empty range: none that exist."""
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or not any(match.groups()):
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition != etag:
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)


def _pieces(content: File[Any], span: range) -> Iterator[bytes]:
    with content:
        content.seek(span.start)
        left = len(span)
        while left and (piece := content.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece
