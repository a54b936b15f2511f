"""Resumable uploads over HTTP: tus 1.0 (https://tus.io/protocols/resumable-upload).

Offered are creation, creation-with-upload, termination, expiration, checksum and concatenation; not an upload
whose length is told later. Clients that can send nothing but POST name the method in X-HTTP-Method-Override.
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
    refuse_what_is_not_offered,
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
# A sender who is silent for so long has gone, and must not keep others from going on in its place.
SILENT_SECONDS = 30


class UploadTarget(TypedDict):
    """Where a request to begin an upload has its file go."""

    owner: User
    folder: Folder | None
    place: UploadPath
    on_conflict: OnConflict
    key: str | None


class WrongVersion(DomainError):
    """The sender speaks another tus than we do."""

    status = 412
    code = "tus_version"
    title = "Precondition failed"


class NotBytes(DomainError):
    """The body is not what carries bytes in tus."""

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


def _answered(name: str, description: str) -> OpenApiParameter:
    """Describe a header of the answer."""
    return OpenApiParameter(name, str, OpenApiParameter.HEADER, description=description, response=[201, 204])


FAR = _answered("Upload-Offset", "How many bytes are there now.")
FINISHED = _answered(
    "Content-Location", "With the last byte: the address of the finished file, as `GET /v1/files/{file_id}`."
)


class Untouched(BaseParser):
    """Leaves a body to the view. Without it, looking for a browser's token among the fields of a form would
    refuse a body that is none."""

    media_type = BODY

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return {}


class TusView(ApiView):
    """What both addresses share: the version, the extensions, and who may ask for them."""

    parser_classes = [Untouched]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Take a POST for the method that its sender names, with the scopes and tokens that it needs."""
        override = request.headers.get("X-HTTP-Method-Override", "").strip().upper()
        if request.method == "POST" and override:
            request.method = override
        return super().dispatch(request, *args, **kwargs)

    def get_permissions(self) -> Any:
        """What the server can do is told to everybody."""
        return [AllowAny()] if self.request.method == "OPTIONS" else super().get_permissions()

    def options(  # type: ignore[override]  # DRF hands its own request over
        self, request: Request, *args: Any, **kwargs: Any
    ) -> Response:
        """Tell what of tus is offered."""
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
    """Where uploads begin."""

    @extend_schema(
        operation_id="uploads_create",
        summary="Begin a resumable upload",
        tags=["Uploads"],
        parameters=[
            TUS_RESUMABLE,
            _header("Upload-Length", "How many bytes the file has; a final upload has those of its parts."),
            _header(
                "Upload-Concat",
                "`partial` for a part of a file, or `final;` and the addresses of its parts in order, with "
                "blanks between. Parts never become files by themselves.",
            ),
            _header(
                "Upload-Metadata",
                "Pairs of a name and a value in base64, with commas between: `filename`; `folder`, an id; "
                "`relativePath`, the file's path below that folder, whose folders are made; `onConflict`, "
                "what to do where the name is taken: `keep_both` (the default), `replace` or `skip`.",
            ),
            CHECKSUM,
            IDEMPOTENCY_KEY,
            _answered("Location", "The upload's address, to which its bytes are sent."),
            FAR,
            FINISHED,
        ],
        request=BYTES,
        responses={201: None},
    )
    def post(self, request: Request) -> Response:
        """Answers with the upload's address in `Location`. The first bytes may come at once, as the body."""
        _check_version(request)
        concat = read_concat(request)
        if concat is not None and concat.is_final:
            upload = _join(request, concat)
        else:
            upload = _begin(request, is_partial=concat is not None)
        headers = {"Location": request.build_absolute_uri(reverse("v1:upload", args=[upload.pk]))}
        return Response(status=201, headers={**_state(request, upload), **headers})


class UploadDetail(TusView):
    """An upload under way."""

    # Where an upload goes on is part of sending it.
    scopes = {"HEAD": frozenset({Scope.READ, Scope.WRITE})}

    def head(self, request: Request, upload_id: UUID) -> Response:
        """Tell how far an upload is."""
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
            _header("Upload-Offset", "How many bytes are there already, as HEAD tells it.", required=True),
            CHECKSUM,
            FAR,
            FINISHED,
        ],
        request=BYTES,
        responses={204: None},
    )
    def patch(self, request: Request, upload_id: UUID) -> Response:
        """Answers with the new `Upload-Offset`; with the last byte also with the address of the finished file
        in `Content-Location`. After a broken connection, HEAD tells where to go on."""
        upload = _upload(request, upload_id)
        if upload.completed_at is not None and concat_of(upload):
            raise Forbidden("A final upload takes no bytes: it was made of its parts.")
        if media_type(request) != BODY:
            raise NotBytes(f"Send the bytes as {BODY}.")
        offset = read_number(request, "Upload-Offset")
        upload = _append(request, upload, offset)
        return Response(status=204, headers=_state(request, upload))

    @extend_schema(
        operation_id="uploads_delete",
        summary="Give an upload up",
        tags=["Uploads"],
        parameters=[TUS_RESUMABLE],
        request=None,
        responses={204: None},
    )
    def delete(self, request: Request, upload_id: UUID) -> Response:
        """Drops the bytes that were sent. The file of a finished upload stays."""
        resumable.drop_upload(upload=_upload(request, upload_id))
        return Response(status=204)


def _upload(request: Request, upload_id: UUID) -> Upload:
    """Return the caller's upload; what is not theirs is not there, whatever version they speak."""
    upload = resumable.get_resumable(owner=caller(request), upload_id=upload_id)
    _check_version(request)
    return upload


def _check_version(request: Request) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise WrongVersion(f"Send the header Tus-Resumable: {VERSION}.")
    refuse_what_is_not_offered(request)


def _target(request: Request) -> UploadTarget:
    owner, told = caller(request), read_metadata(request.headers.get("Upload-Metadata", ""))
    folder_id = told.get("folder", "")
    return UploadTarget(
        owner=owner,
        folder=services.get_folder(owner=owner, folder_id=folder_id) if folder_id else None,
        place=place_of(told),
        on_conflict=on_conflict_of(told),
        key=idempotency_key(request),
    )


def _begin(request: Request, *, is_partial: bool) -> Upload:
    """Begin an upload, with the bytes that come along. A part of a file has no place of its own."""
    length = read_number(request, "Upload-Length")
    # What cannot be checked is refused before anything is made.
    read_checksum(request)
    if is_partial:
        upload = resumable.begin_part(owner=caller(request), length=length, key=idempotency_key(request))
    else:
        target = _target(request)
        upload = _whole(request, target, length) or resumable.begin_resumable(**target, length=length)
    if carries_bytes(request) and upload.completed_at is None and part_files.received(upload) == 0:
        upload = _append(request, upload, 0)
    return upload


def _join(request: Request, concat: Concat) -> Upload:
    """Make the file of an upload whose parts are there."""
    if carries_bytes(request):
        raise NotBytes("A final upload has no bytes of its own: it is made of its parts.")
    return concatenate(**_target(request), part_ids=concat.part_ids, told=concat.told)


def _append(request: Request, upload: Upload, offset: int) -> Upload:
    """Stream the request's body into the upload."""
    digest = read_checksum(request)
    with _body(request) as source:
        return resumable.append_bytes(
            upload=upload, offset=offset, source=source, size=_size(request), digest=digest
        )


def _whole(request: Request, target: UploadTarget, length: int) -> Upload | None:
    """Take a small file that this request carries whole; None where it is to go the longer way."""
    size = _size(request) if carries_bytes(request) else 0
    if not is_whole(length=length, size=size, on_conflict=target["on_conflict"]):
        return None
    digest = read_checksum(request)
    with _body(request) as source:
        return take_whole(**target, length=length, source=source, digest=digest)


@contextmanager
def _body(request: Request) -> Iterator[rules.ByteStream]:
    """Give the body of a request to read from; a sender who falls silent has broken off."""
    # Gunicorn's threads would otherwise wait for ever for a sender whose network has gone.
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
    """Return the headers that say how far an upload is, and what became of it."""
    headers = {
        "Upload-Offset": str(part_files.received(upload)),
        "Upload-Expires": http_date(upload.expires_at.timestamp()),
    }
    if upload.file is not None:
        address = reverse("v1:file", args=[upload.file.pk])
        headers["Content-Location"] = request.build_absolute_uri(address)
    return headers
