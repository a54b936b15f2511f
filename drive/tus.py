"""Resumable uploads over HTTP: tus 1.0 (https://tus.io/protocols/resumable-upload).

Offered are creation, creation-with-upload, termination, expiration and checksum; not an upload whose length
is told later, and not concatenation.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, TypedDict
from uuid import UUID

from django.conf import settings
from django.urls import reverse
from django.utils.http import http_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions
from rest_framework.parsers import BaseParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import User
from drive import parts, services, uploading
from drive.models import Folder, OnConflict, Upload
from drive.paths import Place, clean_path
from drive.uploading import Digest
from drive.whole import is_whole, take_whole
from ipau.common.api import IDEMPOTENCY_KEY, ApiView, idempotency_key
from ipau.common.errors import DomainError, Invalid

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
CHECKSUMS = ("sha256", "sha1")
BODY = "application/offset+octet-stream"
# A sender who is silent for so long has gone, and must not keep others from going on in its place.
SILENT_SECONDS = 30


class Wanted(TypedDict):
    """What a request to begin an upload asks for."""

    owner: User
    folder: Folder | None
    place: Place
    length: int
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
            _header("Upload-Length", "How many bytes the file has.", required=True),
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
        owner, told = caller(request), _metadata(request.headers.get("Upload-Metadata", ""))
        folder_id = told.get("folder", "")
        wanted = Wanted(
            owner=owner,
            folder=services.get_folder(owner=owner, folder_id=folder_id) if folder_id else None,
            place=_place(told),
            length=_length(request),
            on_conflict=_on_conflict(told),
            key=idempotency_key(request),
        )
        upload = _whole(request, wanted) or uploading.begin_upload(**wanted)
        if _carries_bytes(request) and upload.completed_at is None and parts.received(upload) == 0:
            upload = _append(request, upload, 0)
        headers = {"Location": request.build_absolute_uri(reverse("v1:upload", args=[upload.pk]))}
        return Response(status=201, headers={**_state(request, upload), **headers})


class UploadDetail(TusView):
    """An upload under way."""

    def head(self, request: Request, upload_id: UUID) -> Response:
        """Tell how far an upload is."""
        upload = _upload(request, upload_id)
        headers = {"Upload-Length": str(upload.length), "Cache-Control": "no-store"}
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
        if _media_type(request) != BODY:
            raise NotBytes(f"Send the bytes as {BODY}.")
        offset = _number(request, "Upload-Offset")
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
        uploading.drop_upload(upload=_upload(request, upload_id))
        return Response(status=204)


def _upload(request: Request, upload_id: UUID) -> Upload:
    """Return the caller's upload; what is not theirs is not there, whatever version they speak."""
    upload = uploading.get_upload(owner=caller(request), upload_id=upload_id)
    _check_version(request)
    return upload


def _check_version(request: Request) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise WrongVersion(f"Send the header Tus-Resumable: {VERSION}.")


def _append(request: Request, upload: Upload, offset: int) -> Upload:
    """Stream the request's body into the upload."""
    digest = _digest(request)
    with _body(request) as source:
        return uploading.append_bytes(
            upload=upload, offset=offset, source=source, size=_size(request), digest=digest
        )


def _whole(request: Request, wanted: Wanted) -> Upload | None:
    """Take a small file that this request carries whole; None where it is to go the longer way."""
    size = _size(request) if _carries_bytes(request) else 0
    if not is_whole(length=wanted["length"], size=size, on_conflict=wanted["on_conflict"]):
        return None
    digest = _digest(request)
    with _body(request) as source:
        return take_whole(**wanted, source=source, digest=digest)


@contextmanager
def _body(request: Request) -> Iterator[uploading.Source]:
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
        "Upload-Offset": str(parts.received(upload)),
        "Upload-Expires": http_date(upload.expires_at.timestamp()),
    }
    if upload.file is not None:
        address = reverse("v1:file", args=[upload.file.pk])
        headers["Content-Location"] = request.build_absolute_uri(address)
    return headers


# --- What the headers say.


def _media_type(request: Request) -> str:
    return (request.content_type or "").split(";")[0].strip().lower()


def _carries_bytes(request: Request) -> bool:
    return _media_type(request) == BODY and request.META.get("CONTENT_LENGTH") not in (None, "", "0")


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    # Eighteen digits: what the database can count.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise exceptions.ParseError(f"Send {name} as a whole number.")
    return int(text)


def _length(request: Request) -> int:
    if request.headers.get("Upload-Defer-Length"):
        raise exceptions.ParseError("The length must be known: send Upload-Length.")
    return _number(request, "Upload-Length")


def _metadata(header: str) -> Mapping[str, str]:
    """Read "name dmFsdWU=,flag": values are UTF-8 in base64. Raises ParseError."""
    found: dict[str, str] = {}
    for pair in header.split(","):
        name, _, value = pair.strip().partition(" ")
        if not name:
            continue
        try:
            found[name] = base64.b64decode(value.strip(), validate=True).decode()
        except ValueError as error:
            raise exceptions.ParseError(f"Upload-Metadata: {name} is not UTF-8 in base64.") from error
    return found


def _place(told: Mapping[str, str]) -> Place:
    """Return name and folders. Browsers send no path, an empty one or "null" with a file chosen by itself."""
    path = told.get("relativePath", "")
    if path in ("", "null"):
        name = (told.get("filename") or told.get("name") or "").replace("\\", "/").rsplit("/", 1)[-1]
        # A name alone leads nowhere: an odd one is mended.
        return clean_path(name if name.strip(". ") else "file")
    return clean_path(path)


def _on_conflict(told: Mapping[str, str]) -> OnConflict:
    try:
        return OnConflict(told.get("onConflict") or OnConflict.KEEP_BOTH)
    except ValueError as error:
        choices = ", ".join(OnConflict.values)
        raise Invalid(f"onConflict is one of: {choices}.", fields={"onConflict": "Unknown."}) from error


class _Checksum:
    """What `Upload-Checksum` says about a body, compared with what comes."""

    def __init__(self, algorithm: str, wanted: bytes):
        self._digest = hashlib.new(algorithm, usedforsecurity=False)
        self._wanted = wanted

    def update(self, data: bytes, /) -> None:
        self._digest.update(data)

    def agrees(self) -> bool:
        return hmac.compare_digest(self._digest.digest(), self._wanted)


def _digest(request: Request) -> Digest | None:
    header = request.headers.get("Upload-Checksum")
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    if algorithm not in CHECKSUMS:
        raise exceptions.ParseError(f"Upload-Checksum: the algorithms are {', '.join(CHECKSUMS)}.")
    try:
        return _Checksum(algorithm, base64.b64decode(value, validate=True))
    except ValueError as error:
        raise exceptions.ParseError("Upload-Checksum: the digest is not base64.") from error
