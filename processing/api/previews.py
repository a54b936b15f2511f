"""Previews over the API: a picture in, a picture out, in one request."""

import base64
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import caller
from accounts.models import PLATFORM_HANDLE, Scope
from drive.models import File
from ipau.common.api.parsers import JSONParser, MultiPartParser
from ipau.common.api.views import ApiView
from ipau.common.errors import Invalid
from ipau.common.strict_json import UnreadableJSON, read_json
from market.listings.io_schema import PICTURE
from market.models import Version
from market.weights.default_detector import check_detector, default_detector
from processing import services
from processing.api.predictions import site_hosts
from processing.jobs import predictions
from processing.previews.channel import Answer
from processing.previews.rate_limit import PreviewThrottle
from processing.serializers import (
    DetectFormSerializer,
    DetectInputSerializer,
    DetectionsSerializer,
    DrawnSerializer,
    PreviewAnswerSerializer,
    PreviewFormSerializer,
    PreviewInputSerializer,
)

# The choice of detectors' setting `result` that makes no picture.
DATA = "data"
# The part of a form that holds the picture may have any of these names.
_PICTURE_PARTS = (PICTURE, "file", "content")
_DETECT_REQUEST = {"multipart/form-data": DetectFormSerializer, "application/json": DetectInputSerializer}


class PreviewView(ApiView):
    """The base of all that answers with a preview: a picture in, an answer within the request."""

    parser_classes = [MultiPartParser, JSONParser]
    max_bytes = services.PREVIEW_MAX_BYTES
    throttle_classes = [PreviewThrottle]
    scopes = {"POST": Scope.RUN}


class Preview(PreviewView):
    """What an app does to a picture, reduced, at once."""

    @extend_schema(
        operation_id="preview",
        summary="Preview an app on a picture",
        tags=["Previews"],
        request={
            "multipart/form-data": PreviewFormSerializer,
            "application/json": PreviewInputSerializer,
        },
        responses={
            (200, "image/*"): OpenApiTypes.BINARY,
            (200, "application/json"): PreviewAnswerSerializer,
        },
    )
    def post(self, request: Request, name: str) -> HttpResponseBase:
        """Send the picture as a form's part `image`, or the id of a file of yours as `file`, and the app's
        parameters as further fields. The answer is a picture of at most 1024 pixels a side; with `Accept:
        application/json` it is JSON. Nothing is stored."""
        return _preview(request, f"{PLATFORM_HANDLE}/{name}")


class ModelPreview(PreviewView):
    """What any app, model or pipeline does to a picture, reduced, at once."""

    @extend_schema(
        operation_id="models_preview",
        summary="Preview a pipeline or a model on a picture",
        tags=["Previews"],
        request={
            "multipart/form-data": PreviewFormSerializer,
            "application/json": PreviewInputSerializer,
        },
        responses={
            (200, "image/*"): OpenApiTypes.BINARY,
            (200, "application/json"): PreviewAnswerSerializer,
        },
    )
    def post(self, request: Request, owner: str, name: str) -> HttpResponseBase:
        """The same for `owner/name`, such as a pipeline: its parameters are fields like `pixelart.block`."""
        return _preview(request, f"{owner}/{name}")


class Detect(PreviewView):
    """What a detector finds in a picture, drawn into it."""

    @extend_schema(
        operation_id="detect",
        summary="Detect things and draw them",
        tags=["Previews"],
        request=_DETECT_REQUEST,
        responses={
            (200, "image/*"): OpenApiTypes.BINARY,
            (200, "application/json"): PreviewAnswerSerializer,
        },
    )
    def post(self, request: Request) -> HttpResponseBase:
        """As a preview of the model that `model` names. Without it, the site's own detector answers, or the
        only one that you may run. Boxes are in pixels of the picture that you send."""
        return _respond(request, _detect(request))


class DetectToJson(PreviewView):
    """What a detector finds in a picture, as data."""

    @extend_schema(
        operation_id="detect_to_json",
        summary="Detect things and tell them",
        tags=["Previews"],
        request=_DETECT_REQUEST,
        responses=DetectionsSerializer,
    )
    def post(self, request: Request) -> Response:
        """The same without the picture. `x` and `y` are the middle of a box."""
        return Response(_detect(request, draws=False).data)


class DetectToImg(PreviewView):
    """What a detector finds in a picture, drawn into it, in base64."""

    @extend_schema(
        operation_id="detect_to_img",
        summary="Detect things and draw them, in base64",
        tags=["Previews"],
        request=_DETECT_REQUEST,
        responses=DrawnSerializer,
    )
    def post(self, request: Request) -> Response:
        """The same picture as `detect` gives, inside JSON."""
        answer = _detect(request)
        return Response(DrawnSerializer({**vars(answer), PICTURE: _base64(answer)}).data)


def _detect(request: Request, *, draws: bool = True) -> Answer:
    """Raises Invalid where a picture is asked for and `result` is to be the data alone."""
    asked = _read(request)
    owner, reference = caller(request), asked.params.pop("model", "")
    if reference:
        version = check_detector(predictions.find_version(user=owner, reference=str(reference)))
    else:
        version = default_detector(user=owner)
    if draws and asked.params.get("result") == DATA:
        text = _("This gives no picture. Ask “detect-to-json” for the data alone.")
        raise Invalid(text, code="invalid_input", fields={"result": text})
    results = version.params_schema["properties"].get("result", {}).get("enum", ())
    if not draws and DATA in results and asked.params.get("result", DATA) in results:
        # Whatever would be drawn or cut out is shown to nobody.
        asked.params["result"] = DATA
    return _ask(request, version, asked)


def _preview(request: Request, reference: str) -> HttpResponseBase:
    version = predictions.find_version(user=caller(request), reference=reference)
    return _respond(request, _ask(request, version, _read(request)))


def _ask(request: Request, version: Version, asked: "_Asked") -> Answer:
    owner = caller(request)
    if asked.file is not None:
        return services.preview_file(owner=owner, version=version, params=asked.params, file=asked.file)
    return services.preview_bytes(owner=owner, version=version, params=asked.params, data=asked.data)


@dataclass(frozen=True)
class _Asked:
    """A picture and parameters."""

    params: dict[str, Any]
    file: File | None = None
    data: bytes = b""


def _read(request: Request) -> _Asked:
    """Take apart a form or a JSON object. Raises Invalid where no picture comes with it."""
    fields = dict(request.data.items()) if hasattr(request.data, "items") else {}
    parts = [fields.pop(name) for name in _PICTURE_PARTS if fields.get(name) not in (None, "")]
    params = {**_json_part(fields.pop("input", None)), **fields}
    if len(parts) != 1:
        message = "Send one picture: as the part `image`, or as `file` the id of a file of yours."
        raise Invalid(message, fields={PICTURE: message})
    if hasattr(parts[0], "read"):
        return _Asked(params, data=parts[0].read())
    found = predictions.find_picture(
        owner=caller(request), reference=str(parts[0]), hosts=site_hosts(request)
    )
    return _Asked(params, file=found.file, data=found.data)


def _json_part(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str):
        try:
            value = read_json(value)
        except UnreadableJSON as error:
            raise Invalid(str(error), fields={"input": str(error)}) from error
    if not isinstance(value, dict):
        message = "Send the parameters as a JSON object."
        raise Invalid(message, fields={"input": message})
    return value


def _respond(request: Request, answer: Answer) -> HttpResponseBase:
    wanted = request.headers.get("Accept", "")
    if "application/json" in wanted or not answer.body:
        body = {**vars(answer), PICTURE: _base64(answer)}
        return Response(PreviewAnswerSerializer(body).data)
    response = HttpResponse(answer.body, content_type=answer.content_type)
    response["Server-Timing"] = ", ".join(f"{stage};dur={ms:.1f}" for stage, ms in answer.timings.items())
    response["Cache-Control"] = "no-store"
    return response


def _base64(answer: Answer) -> str:
    return base64.b64encode(answer.body).decode()
