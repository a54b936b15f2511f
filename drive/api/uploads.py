"""Resumable uploads over HTTP: tus 1.0 (https://tus.io/protocols/resumable-upload).

Supported extensions: creation, creation-with-upload, termination, expiration, checksum and concatenation, but
not deferred length. Clients that can only send POST name the method in X-HTTP-Method-Override.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, TypedDict
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse
from django.utils.http import http_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import Scope, User
from drive.api.tus_headers import (
    BODY,
    CHECKSUMS,
    VERSION,
    Concat,
    carries_bytes,
    media_type,
    on_conflict_of,
    place_of,
    read_checksum,
    read_concat,
    read_metadata,
    read_number,
    refuse_unsupported_headers,
)
from drive.files import services
from drive.files.paths import UploadPath
from drive.models import Folder, OnConflict, Upload
from drive.uploads import part_files, resumable, rules
from drive.uploads.concatenation import concat_of, concatenate
from drive.uploads.single_request import is_whole, take_whole
from ipau.common.api.views import IDEMPOTENCY_KEY, ApiView, idempotency_key
from ipau.common.errors import DomainError, Forbidden

EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum,concatenation"
# Read timeout. A dead connection must not keep the client from continuing on another one.
SILENT_SECONDS = 30


class UploadTarget(TypedDict):
    """Destination of a new upload."""

    owner: User
    folder: Folder | None
    place: UploadPath
    on_conflict: OnConflict
    key: str | None


class WrongVersion(DomainError):
    """The client uses another version of tus."""

    status = 412
    code = "tus_version"
    title = "Precondition failed"


class NotBytes(DomainError):
    """The body has the wrong media type for bytes in tus."""

    status = 415
    code = "unsupported_media_type"
    title = "Unsupported media type"


def _header(name: str, description: str, *, required: bool = False) -> OpenApiParameter:
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, description=description, required=required)


TUS_RESUMABLE = _header("Tus-Resumable", f"The version of tus: {VERSION}.", required=True)
CHECKSUM = _header(
    "Upload-Checksum", f"Algorithm ({', '.join(CHECKSUMS)}) and digest of this body in base64."
)
BYTES = {BODY: OpenApiTypes.BINARY}


def _response_header(name: str, description: str) -> OpenApiParameter:
    """Describe a response header."""
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, description=description, response=[201, 204])


OFFSET = _response_header("Upload-Offset", "Number of bytes received so far.")
FILE_LOCATION = _response_header(
    "Content-Location", "After the last byte: the URL of the file, as `GET /v1/files/{file_id}`."
)


class RawParser(BaseParser):
    """Parser that leaves the body to the view. Otherwise the CSRF check would parse the body as a form and
    refuse it."""

    media_type = BODY

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return {}


class TusView(ApiView):
    """Base of both endpoints: version, extensions and permissions."""

    parser_classes = [RawParser]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Apply X-HTTP-Method-Override, with the scopes and CSRF check of the overriding method."""
        override = request.headers.get("X-HTTP-Method-Override", "").strip().upper()
        if request.method == "POST" and override:
            request.method = override
        return super().dispatch(request, *args, **kwargs)

    def get_permissions(self) -> Any:
        """Allow OPTIONS without authentication."""
        return [AllowAny()] if self.request.method == "OPTIONS" else super().get_permissions()

    def options(  # type: ignore[override]  # DRF passes its own request
        self, request: Request, *args: Any, **kwargs: Any
    ) -> Response:
        """Return the supported version and extensions of tus."""
        headers = {
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(settings.RESUMABLE_MAX_BYTES),
            "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
        }
        return Response(status=204, headers=headers)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Tus-Resumable"] = VERSION
        if response.status_code == WrongVersion.status:
            response["Tus-Version"] = VERSION
        return response


class UploadList(TusView):
    """Creation of uploads."""

    @extend_schema(
        operation_id="uploads_create",
        summary="Begin a resumable upload",
        tags=["Uploads"],
        parameters=[
            TUS_RESUMABLE,
            _header("Upload-Length", "Size of the file in bytes; not for final uploads."),
            _header(
                "Upload-Concat",
                "`partial` for a part of a file, or `final;` and the URLs of the parts in order, separated "
                "by spaces. Parts never become files by themselves.",
            ),
            _header(
                "Upload-Metadata",
                "Comma-separated pairs of a name and a base64 value: `filename`; `folder`, an id; "
                "`relativePath`, the file's path below that folder (missing folders are created); "
                "`onConflict`, if the name is taken: `keep_both` (the default), `replace` or `skip`.",
            ),
            CHECKSUM,
            IDEMPOTENCY_KEY,
            _response_header("Location", "URL of the upload, to which you send its bytes."),
            OFFSET,
            FILE_LOCATION,
        ],
        request=BYTES,
        responses={201: None},
    )
    def post(self, request: Request) -> Response:
        """Returns the upload's URL in `Location`. The body may contain the first bytes."""
        _check_version(request)
        concat = read_concat(request)
        if concat is not None and concat.is_final:
            upload = _concatenate(request, concat)
        else:
            upload = _begin(request, is_partial=concat is not None)
        headers = {"Location": request.build_absolute_uri(reverse("v1:upload", args=[upload.pk]))}
        return Response(status=201, headers={**_state(request, upload), **headers})


class UploadDetail(TusView):
    """One upload."""

    # A key with only `write` needs the offset to continue an upload.
    scopes = {"HEAD": frozenset({Scope.READ, Scope.WRITE})}

    def head(self, request: Request, upload_id: UUID) -> Response:
        """Return the upload's offset and length."""
        upload = _upload(request, upload_id)
        headers = {"Upload-Length": str(upload.length), "Cache-Control": "no-store"}
        if concat := concat_of(upload):
            headers["Upload-Concat"] = concat
        return Response(status=200, headers={**_state(request, upload), **headers})

    @extend_schema(
        operation_id="uploads_append",
        summary="Send bytes of an upload",
        tags=["Uploads"],
        parameters=[
            TUS_RESUMABLE,
            _header("Upload-Offset", "Number of bytes received so far, as HEAD returns it.", required=True),
            CHECKSUM,
            OFFSET,
            FILE_LOCATION,
        ],
        request=BYTES,
        responses={204: None},
    )
    def patch(self, request: Request, upload_id: UUID) -> Response:
        """Returns the new `Upload-Offset`, and after the last byte the file's URL in `Content-Location`.
        After a broken connection, HEAD returns the offset at which to continue."""
        upload = _upload(request, upload_id)
        if upload.completed_at is not None and concat_of(upload):
            raise Forbidden("A final upload accepts no bytes: it consists of its parts.")
        if media_type(request) != BODY:
            raise NotBytes(f"Send the bytes with Content-Type {BODY}.")
        offset = read_number(request, "Upload-Offset")
        upload = _append(request, upload, offset)
        return Response(status=204, headers=_state(request, upload))

    @extend_schema(
        operation_id="uploads_delete",
        summary="Delete an upload",
        tags=["Uploads"],
        parameters=[TUS_RESUMABLE],
        request=None,
        responses={204: None},
    )
    def delete(self, request: Request, upload_id: UUID) -> Response:
        """Deletes the received bytes. The file of a finished upload stays."""
        resumable.drop_upload(upload=_upload(request, upload_id))
        return Response(status=204)


def _upload(request: Request, upload_id: UUID) -> Upload:
    """Return the caller's upload. Raises NotFound before WrongVersion."""
    upload = resumable.get_resumable(owner=caller(request), upload_id=upload_id)
    _check_version(request)
    return upload


def _check_version(request: Request) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise WrongVersion(f"Send the header Tus-Resumable: {VERSION}.")
    refuse_unsupported_headers(request)


def _target(request: Request) -> UploadTarget:
    owner, metadata = caller(request), read_metadata(request.headers.get("Upload-Metadata", ""))
    folder_id = metadata.get("folder", "")
    return UploadTarget(
        owner=owner,
        folder=services.get_folder(owner=owner, folder_id=folder_id) if folder_id else None,
        place=place_of(metadata),
        on_conflict=on_conflict_of(metadata),
        key=idempotency_key(request),
    )


def _begin(request: Request, *, is_partial: bool) -> Upload:
    """Begin an upload and append the body's bytes, if any. A partial upload has no destination."""
    length = read_number(request, "Upload-Length")
    # Refuse an invalid checksum header before anything is created.
    read_checksum(request)
    if is_partial:
        upload = resumable.begin_part(owner=caller(request), length=length, key=idempotency_key(request))
    else:
        target = _target(request)
        upload = _take_whole(request, target, length) or resumable.begin_resumable(**target, length=length)
    if carries_bytes(request) and upload.completed_at is None and part_files.received(upload) == 0:
        upload = _append(request, upload, 0)
    return upload


def _concatenate(request: Request, concat: Concat) -> Upload:
    """Create the file of a final upload."""
    if carries_bytes(request):
        raise NotBytes("A final upload accepts no bytes: it consists of its parts.")
    return concatenate(**_target(request), part_ids=concat.part_ids, header=concat.header)


def _append(request: Request, upload: Upload, offset: int) -> Upload:
    """Stream the request's body into the upload."""
    digest = read_checksum(request)
    with _body(request) as source:
        return resumable.append_bytes(
            upload=upload, offset=offset, source=source, size=_size(request), digest=digest
        )


def _take_whole(request: Request, target: UploadTarget, length: int) -> Upload | None:
    """Store a small file that is complete in this request; None if it needs a resumable upload."""
    size = _size(request) if carries_bytes(request) else 0
    if not is_whole(length=length, size=size, on_conflict=target["on_conflict"]):
        return None
    digest = read_checksum(request)
    with _body(request) as source:
        return take_whole(**target, length=length, source=source, digest=digest)


@contextmanager
def _body(request: Request) -> Iterator[rules.ByteStream]:
    """Open the body of a request for reading, with a read timeout."""
    # Otherwise a thread of Gunicorn waits forever for a client that has lost its network.
    connection = request.META.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(SILENT_SECONDS)
    try:
        yield request._request
    finally:
        if connection is not None:
            connection.settimeout(None)


def _size(request: Request) -> int:
    return int(request.META.get("CONTENT_LENGTH") or 0)


def _state(request: Request, upload: Upload) -> dict[str, str]:
    """Return the headers with an upload's offset, expiry and file."""
    headers = {
        "Upload-Offset": str(part_files.received(upload)),
        "Upload-Expires": http_date(upload.expires_at.timestamp()),
    }
    if upload.file is not None:
        address = reverse("v1:file", args=[upload.file.pk])
        headers["Content-Location"] = request.build_absolute_uri(address)
    return headers
