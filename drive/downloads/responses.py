"""HTTP responses with stored bytes: ranges, caching, presigned URLs, archives.

The only module that sends stored bytes. Callers have checked access.
"""

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

from drive.downloads.sanitized import UNCHANGED_KINDS, plan_copy, read_copy
from drive.files.names import upload_name
from drive.formats.browser_support import VIDEOS, WEB_PICTURES
from drive.models import Blob
from ipau.common.http import concurrency

INLINE = WEB_PICTURES | VIDEOS | {"text/plain"}
CHUNK = 256 * 1024
# Smaller responses count as a short wait for the bucket.
LARGE_BYTES = 1024 * 1024
# Browsers follow a presigned URL at once.
PRESIGNED_SECONDS = 300
YEAR = 365 * 24 * 3600
# Sizes have at most 18 digits. Other Range headers are ignored, as RFC 9110 allows.
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
    """Return a response with the bytes of a blob.

    Args:
        name: file name for the browser.
        download: send it as an attachment even if browsers can show it.
        stream: send the bytes directly, without a redirect to the bucket.
        immutable: the URL contains the digest, so browsers may cache it permanently.
    """
    headers = _Headers(name, content_type, download)
    if _is_bucket() and not stream and not settings.ACCEL_PREFIX:
        # Not cacheable: the presigned URL expires.
        return HttpResponseRedirect(_presigned(blob, headers), headers={"Cache-Control": "no-store"})
    etag = quote_etag(blob.sha256)
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        response: HttpResponseBase = HttpResponseNotModified()
    else:
        response = _full_or_accel(request, blob)
        headers.put_on(response)
    response["ETag"] = etag
    if immutable:
        patch_cache_control(response, private=True, max_age=YEAR, immutable=True)
    else:
        patch_cache_control(response, private=True, no_cache=True)
    return response


def serve_sanitized(
    request: HttpRequest, blob: Blob, *, kind: str, name: str, content_type: str, download: bool = False
) -> HttpResponseBase:
    """Return a response for share visitors with a file's bytes, without metadata about the owner.

    Raises:
        Invalid: the metadata cannot be removed.
    """
    if kind in UNCHANGED_KINDS:
        return serve(request, blob, name=name, content_type=content_type, download=download, stream=True)
    etag = quote_etag(f"{blob.sha256}-clean")
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        response: HttpResponseBase = HttpResponseNotModified()
    else:
        response = _send_sanitized(request, blob, etag)
        _Headers(name, content_type, download).put_on(response)
    response["ETag"] = etag
    patch_cache_control(response, private=True, no_cache=True)
    return response


def serve_archive(pieces: Iterable[bytes], *, name: str, size: int | None = None) -> HttpResponseBase:
    """Stream a zip while it is created.

    If bytes are missing, the iterator raises and the server closes the connection. The browser then reports a
    failed download.

    Args:
        size: length of the archive in bytes, if known.
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
    """Headers for content type, file name and safety."""

    def __init__(self, name: str, content_type: str, download: bool):
        # Content that a browser might run, or cannot show, is always an attachment.
        attachment = download or content_type not in INLINE
        self.disposition = content_disposition_header(attachment, upload_name(name, "")) or "attachment"
        self.content_type = "text/plain; charset=utf-8" if content_type == "text/plain" else content_type

    def put_on(self, response: HttpResponseBase) -> None:
        response["Content-Type"] = self.content_type
        response["Content-Disposition"] = self.disposition
        response["X-Content-Type-Options"] = "nosniff"
        # Opened as a page, the content may not run or load anything.
        response["Content-Security-Policy"] = "default-src 'none'; sandbox"
        response["Cross-Origin-Resource-Policy"] = "same-origin"


def _full_or_accel(request: HttpRequest, blob: Blob) -> HttpResponseBase:
    if not settings.ACCEL_PREFIX:
        return _send(request, blob)
    # nginx uses type, disposition and caching of this response, and adds the safety headers itself.
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
    # Only the storage of a bucket accepts these arguments.
    url: str = default_storage.url(  # type: ignore[call-arg]  # S3Storage accepts more
        blob.path, parameters=parameters, expire=PRESIGNED_SECONDS
    )
    return url


def _send(request: HttpRequest, blob: Blob) -> HttpResponseBase:
    byte_range = _requested_range(request, blob.size, quote_etag(blob.sha256))
    if byte_range is None:
        response: HttpResponseBase = FileResponse(default_storage.open(blob.path), content_type="x/x")
        response["Content-Length"] = str(blob.size)
    elif byte_range.start >= byte_range.stop:
        response = _range_not_satisfiable(blob.size)
    else:
        content = default_storage.open(blob.path)
        response = StreamingHttpResponse(_pieces(content, byte_range), status=206)
        _add_range_headers(response, byte_range, blob.size)
    response["Accept-Ranges"] = "bytes"
    _limit_waits(response)
    return response


def _send_sanitized(request: HttpRequest, blob: Blob, etag: str) -> HttpResponseBase:
    """Send the sanitized copy, or the requested range of it: video players request ranges."""
    plan = plan_copy(blob)
    byte_range = _requested_range(request, plan.size, etag)
    if byte_range is None:
        response: HttpResponseBase = StreamingHttpResponse(read_copy(blob, plan))
        response["Content-Length"] = str(plan.size)
    elif byte_range.start >= byte_range.stop:
        response = _range_not_satisfiable(plan.size)
    else:
        response = StreamingHttpResponse(read_copy(blob, plan.cut(byte_range)), status=206)
        _add_range_headers(response, byte_range, plan.size)
    response["Accept-Ranges"] = "bytes"
    _limit_waits(response)
    return response


def _limit_waits(response: HttpResponseBase) -> None:
    """Count a response from the bucket as a wait: the bucket may stop answering between two pieces.

    A slow client blocks no thread (`ipau.web`), so responses from the file system are not limited.
    """
    if response.streaming and _is_bucket():
        is_large = int(response.get("Content-Length", "0")) > LARGE_BYTES
        concurrency.hold_for(response, is_short=not is_large)


def _range_not_satisfiable(size: int) -> HttpResponse:
    response = HttpResponse(status=416)
    response["Content-Range"] = f"bytes */{size}"
    return response


def _add_range_headers(response: HttpResponseBase, byte_range: range, size: int) -> None:
    response["Content-Range"] = f"bytes {byte_range.start}-{byte_range.stop - 1}/{size}"
    response["Content-Length"] = str(len(byte_range))


def _requested_range(request: HttpRequest, size: int, etag: str) -> range | None:
    """Parse the Range header. None: no range; empty range: unsatisfiable."""
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


def _pieces(content: File[Any], byte_range: range) -> Iterator[bytes]:
    with content:
        content.seek(byte_range.start)
        left = len(byte_range)
        while left and (piece := content.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece
