"""API views of previews and detection: an image in, the result out, in one request."""

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

# Value of the parameter `result` of detectors that produces no image.
DATA = "data"
# Accepted names of the form part that holds the image.
_PICTURE_PARTS = (PICTURE, "file", "content")
_DETECT_REQUEST = {"multipart/form-data": DetectFormSerializer, "application/json": DetectInputSerializer}


class PreviewView(ApiView):
    """Base class of views that return a preview within the request."""

    parser_classes = [MultiPartParser, JSONParser]
    max_bytes = services.PREVIEW_MAX_BYTES
    throttle_classes = [PreviewThrottle]
    scopes = {"POST": Scope.RUN}


class Preview(PreviewView):
    """Preview an app on a reduced image."""

    @extend_schema(
        operation_id="preview",
        summary="Preview an app on an image",
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
        """Send the image as the form part `image`, or the id of a file of yours as `file`, and the parameters
        of the app as further fields. The response is an image of at most 1024 pixels a side. With `Accept:
        application/json` it is JSON. Nothing is stored."""
        return _preview(request, f"{PLATFORM_HANDLE}/{name}")


class ModelPreview(PreviewView):
    """Preview any app, model or pipeline on a reduced image."""

    @extend_schema(
        operation_id="models_preview",
        summary="Preview a pipeline or a model on an image",
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
        """The same for `owner/name`. Parameters of a pipeline are fields like `pixelart.block`."""
        return _preview(request, f"{owner}/{name}")


class Detect(PreviewView):
    """Run a detector on an image and draw the detections."""

    @extend_schema(
        operation_id="detect",
        summary="Detect objects and draw them",
        tags=["Previews"],
        request=_DETECT_REQUEST,
        responses={
            (200, "image/*"): OpenApiTypes.BINARY,
            (200, "application/json"): PreviewAnswerSerializer,
        },
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Previews the detector in `model`. Without `model`, the default detector of the site runs, or the
        only one that you can run. Boxes are in pixels of the image that you send."""
        return _respond(request, _detect(request))


class DetectToJson(PreviewView):
    """Run a detector on an image and return the detections as JSON."""

    @extend_schema(
        operation_id="detect_to_json",
        summary="Detect objects and return them as JSON",
        tags=["Previews"],
        request=_DETECT_REQUEST,
        responses=DetectionsSerializer,
    )
    def post(self, request: Request) -> Response:
        """The same without the image. `x` and `y` are the center of a box."""
        return Response(_detect(request, draws=False).data)


class DetectToImg(PreviewView):
    """Run a detector on an image and return the annotated image in base64."""

    @extend_schema(
        operation_id="detect_to_img",
        summary="Detect objects and draw them, in base64",
        tags=["Previews"],
        request=_DETECT_REQUEST,
        responses=DrawnSerializer,
    )
    def post(self, request: Request) -> Response:
        """The same image as `detect`, inside JSON."""
        answer = _detect(request)
        return Response(DrawnSerializer({**vars(answer), PICTURE: _base64(answer)}).data)


def _detect(request: Request, *, draws: bool = True) -> Answer:
    """Run a detector on the image of a request.

    Raises Invalid if an image is requested but `result` is only data.
    """
    sent = _read(request)
    owner, reference = caller(request), sent.params.pop("model", "")
    if reference:
        version = check_detector(predictions.find_version(user=owner, reference=str(reference)))
    else:
        version = default_detector(user=owner)
    if draws and sent.params.get("result") == DATA:
        text = _("This value returns no image. Use “detect-to-json” to get only the data.")
        raise Invalid(text, code="invalid_input", fields={"result": text})
    results = version.params_schema["properties"].get("result", {}).get("enum", ())
    if not draws and DATA in results and sent.params.get("result", DATA) in results:
        # The image is not returned, so drawing it is skipped.
        sent.params["result"] = DATA
    return _run(request, version, sent)


def _preview(request: Request, reference: str) -> HttpResponseBase:
    version = predictions.find_version(user=caller(request), reference=reference)
    return _respond(request, _run(request, version, _read(request)))


def _run(request: Request, version: Version, sent: "_PreviewInput") -> Answer:
    owner = caller(request)
    if sent.file is not None:
        return services.preview_file(owner=owner, version=version, params=sent.params, file=sent.file)
    return services.preview_bytes(owner=owner, version=version, params=sent.params, data=sent.data)


@dataclass(frozen=True)
class _PreviewInput:
    """The image and parameters of a request."""

    params: dict[str, Any]
    file: File | None = None
    data: bytes = b""


def _read(request: Request) -> _PreviewInput:
    """Return the image and parameters of a form or JSON object. Raises Invalid without exactly one image."""
    fields = dict(request.data.items()) if hasattr(request.data, "items") else {}
    parts = [fields.pop(name) for name in _PICTURE_PARTS if fields.get(name) not in (None, "")]
    params = {**_json_part(fields.pop("input", None)), **fields}
    if len(parts) != 1:
        message = "Send one image: the file as the part `image`, or the id of a file of yours as `file`."
        raise Invalid(message, fields={PICTURE: message})
    if hasattr(parts[0], "read"):
        return _PreviewInput(params, data=parts[0].read())
    image = predictions.find_picture(
        owner=caller(request), reference=str(parts[0]), hosts=site_hosts(request)
    )
    return _PreviewInput(params, file=image.file, data=image.data)


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
