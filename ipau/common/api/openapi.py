"""OpenAPI 3.1 description of the API, rendered once, with the responses that all operations share."""

import json
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer

from ipau.common.api.views import PROBLEM

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "Why a request failed (RFC 9457).",
    "required": ["type", "title", "status", "detail", "message", "instance"],
    "properties": {
        "type": {"type": "string", "description": "Ends in `#` and an error code: `#not_found`."},
        "title": {"type": "string", "description": "The kind of problem."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What went wrong, in a sentence."},
        "message": {"type": "string", "description": "Same as `detail`."},
        "instance": {"type": "string", "description": "The path of the request."},
        "errors": {
            "type": "object",
            "description": "A sentence for each invalid field.",
            "additionalProperties": {"type": "string"},
        },
    },
}
_RESPONSES = {
    400: "The request cannot be read.",
    401: "The API key is missing, unknown, revoked or expired.",
    403: "The API key lacks the required scope.",
    404: "It does not exist, or it belongs to another account.",
    409: "Its state does not allow this, or the idempotency key was used for another request.",
    413: "The request is too large.",
    415: "The content type is not supported.",
    422: "A field or an image is invalid. `errors` names the fields.",
    429: "Too many requests. `Retry-After` is the number of seconds to wait.",
    503: "A part of the system does not answer. `Retry-After` is the number of seconds to wait.",
    504: "The work took longer than the limit for an immediate response.",
}
_PATH_PARAMETERS = {
    "file_id": "The file's id.",
    "upload_id": "The upload's id.",
    "folder_id": "The folder's id.",
    "share_id": "The link's id.",
    "job_id": "The id.",
    "delivery_id": "The delivery's id.",
    "version_id": "The version's id.",
    "conversion_id": "The conversion's id.",
    "owner": "Handle of the owner of the app or model. The platform's own is `ipau`.",
    "name": "Name of the app or model.",
}


def describe_common(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the error responses of each operation, and a description of each path parameter."""
    components = result["components"]
    components["schemas"]["Problem"] = _PROBLEM_SCHEMA
    components["responses"] = {f"Problem{status}": _response(status) for status in _RESPONSES}
    for path, methods in result["paths"].items():
        for method, operation in methods.items():
            for status in _statuses(path, method, operation):
                operation["responses"][str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter.setdefault("description", _PATH_PARAMETERS[parameter["name"]])
            for response in operation["responses"].values():
                if response.get("description") == "":
                    response["description"] = "Done."
    return result


def _response(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": _RESPONSES[status], "content": {PROBLEM: {"schema": schema}}}


def _statuses(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    statuses = [401, 403, 503]
    if "{" in path:
        statuses.append(404)
    if "requestBody" in operation:
        statuses += [400, 404, 413, 415, 422]
    elif path.endswith("/archive") or any(
        parameter["in"] == "query" for parameter in operation.get("parameters", [])
    ):
        statuses.append(422)
    if method in ("post", "patch"):
        statuses.append(409)
    if "/preview/" in path:
        statuses += [429, 504]
    return sorted(set(statuses))


@csrf_exempt
@require_safe
def openapi(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  # a view
    """Return the description. It is the same for all clients."""
    response = HttpResponse(_rendered(), content_type="application/json")
    response["Cache-Control"] = "public, max-age=300"
    return response


@cache
def _rendered() -> bytes:
    # This takes about a second. The result must not depend on the language of the first request.
    with translation.override("en"):
        generator: Any = SchemaGenerator
        schema = generator().get_schema(request=None, public=True)
        rendered: bytes = OpenApiJsonRenderer().render(schema)
    return json.dumps(json.loads(rendered), ensure_ascii=False, separators=(",", ":")).encode()
