"""The API's own description: OpenAPI 3.1, made once, with what all operations have in common."""

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
        "type": {"type": "string", "description": "Ends in `#` and a word for programs: `#not_found`."},
        "title": {"type": "string", "description": "The kind of problem."},
        "status": {"type": "integer", "description": "The HTTP status, again."},
        "detail": {"type": "string", "description": "A sentence for people."},
        "message": {"type": "string", "description": "The same sentence."},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "errors": {
            "type": "object",
            "description": "A sentence for each field that is wrong.",
            "additionalProperties": {"type": "string"},
        },
    },
}
_RESPONSES = {
    400: "The request cannot be read.",
    401: "No key, or one that is unknown, revoked or expired.",
    403: "The key lacks the scope that this needs.",
    404: "It does not exist, or is somebody else's: the two are told alike.",
    409: "Its state does not allow this, or the idempotency key was used for another request.",
    413: "More bytes than are accepted.",
    415: "A kind of body that is not taken here.",
    422: "A field or a picture cannot be used. `errors` names the fields.",
    429: "Too many requests. `Retry-After` says for how many seconds to wait.",
    503: "A part of the system does not answer now. `Retry-After` says when to try again.",
    504: "It took longer than an immediate answer may take.",
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
    "owner": "Whose app or model it is; those of the platform are `ipau`'s.",
    "name": "The app's or model's name.",
}


def describe_common(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add to each operation the errors that it can answer with, and to each path parameter what it means."""
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
    """Answer with the description. It is the same for everybody."""
    response = HttpResponse(_rendered(), content_type="application/json")
    response["Cache-Control"] = "public, max-age=300"
    return response


@cache
def _rendered() -> bytes:
    # Making it takes about a second, and it must not depend on the language of whoever asks first.
    with translation.override("en"):
        generator: Any = SchemaGenerator
        made = generator().get_schema(request=None, public=True)
        rendered: bytes = OpenApiJsonRenderer().render(made)
    return json.dumps(json.loads(rendered), ensure_ascii=False, separators=(",", ":")).encode()
