"""Convert errors under `/v1` that do not come from a view of the API into problem+json.

Middleware, an unknown URL or an outage may end a request before a view of the API sees it.
"""

import json
import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework.permissions import SAFE_METHODS

from ipau.common.api.outages import outage_of
from ipau.common.api.views import PROBLEM, describe, problem
from ipau.common.errors import OUR_FAULT, title_of

# Misspelled URLs of the API count too, since programs request them. So do health checks.
_API = re.compile(r"/+v1(?:/|\Z)|/(?:healthz|readyz)/*\Z", re.IGNORECASE)
_PREFIX = re.compile(r"\A/v1(?=/|\Z)", re.IGNORECASE)
_SLASHES = re.compile(r"/{2,}")
# Code and detail of responses that have only a status.
_CODE_AND_DETAIL = {
    400: ("parse_error", "This request cannot be read."),
    403: ("permission_denied", "This request is not allowed."),
    413: ("too_large", "This request is too large."),
    416: ("range_not_satisfiable", "This range is outside the file. Content-Range has the file's size."),
    500: ("internal", OUR_FAULT),
    503: ("unavailable", "The site does not answer. Try again in a few seconds."),
}
_HTTPS = "The API accepts only https. Send this request to the https:// address."


def is_api_path(path: str) -> bool:
    """Return whether errors at this path are sent as problem+json, never as a page."""
    return _API.match(path) is not None


class ProblemMiddleware:
    """Converts every error response under the API to problem+json. It must be the first middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not is_api_path(request.path):
            return response
        if response.status_code == HTTPStatus.MOVED_PERMANENTLY and request.method not in SAFE_METHODS:
            # Clients would follow this redirect with GET, and take that response for a success.
            del response["Location"]
            return _rewrite(response, request, 403, "https_required", _HTTPS)
        if response.status_code < 400:
            return response
        if response.get("Content-Type", "").startswith(PROBLEM):
            # Errors of the outermost middleware lack the headers that the other middleware adds.
            response.setdefault("X-Content-Type-Options", "nosniff")
            response.setdefault("Content-Length", str(len(response.content)))
            return response
        return _rewrite(response, request, response.status_code, *_code_and_detail(request, response))


def _code_and_detail(request: HttpRequest, response: HttpResponse) -> tuple[str, str]:
    status = response.status_code
    if status == HTTPStatus.NOT_FOUND:
        return "not_found", _not_found_sentence(request.path)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = response.get("Allow", "")
        return "method_not_allowed", f"Method “{request.method}” is not allowed here. Allowed: {allowed}."
    phrase = HTTPStatus(status).phrase
    return _CODE_AND_DETAIL.get(status, (phrase.lower().replace(" ", "_"), f"{title_of(status)}."))


def _rewrite(
    response: HttpResponse, request: HttpRequest, status: int, code: str, detail: str
) -> HttpResponse:
    """Replace the body of a response with a problem. Headers stay: Allow, Retry-After, security headers."""
    body = _body(request, status, code, detail)
    if response.streaming:
        response.close()
        return JsonResponse(body, status=status, content_type=PROBLEM)
    response.status_code = status
    response.content = json.dumps(body).encode()
    response["Content-Type"] = PROBLEM
    response.setdefault("X-Content-Type-Options", "nosniff")
    response["Content-Length"] = str(len(response.content))
    return response


def _body(request: HttpRequest, status: int, code: str, detail: str) -> dict[str, Any]:
    return problem(status=status, title=title_of(status), detail=detail, code=code, instance=request.path)


@csrf_exempt
def not_found(request: HttpRequest) -> HttpResponse:
    """Return 404 for an unknown URL under the API, for any method."""
    body = _body(request, 404, "not_found", _not_found_sentence(request.path))
    return JsonResponse(body, status=404, content_type=PROBLEM)


def _not_found_sentence(path: str) -> str:
    if suggestion := _suggest_path(path):
        return f"This path does not exist. Did you mean {suggestion}?"
    return "This path does not exist. The API is described at /v1/openapi.json."


def _suggest_path(path: str) -> str | None:
    """Return the valid path that `path` misspells with extra slashes or a capital V, or None."""
    corrected = _PREFIX.sub("/v1", _SLASHES.sub("/", path)).rstrip("/")
    try:
        match = resolve(corrected) if corrected != path else None
    except Resolver404:
        return None
    return corrected if match is not None and match.func is not not_found else None


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return 400 for a request that cannot be read: a problem under the API, a page elsewhere."""
    details = describe(exception, request.path) if is_api_path(request.path) else None
    if details is None:
        return defaults.bad_request(request, exception)
    return details.response()


def server_error(request: HttpRequest) -> HttpResponse:
    """Return 500 for a bug or 503 for an outage: a problem under the API, a page elsewhere."""
    # Django calls this while it handles the exception, and does not pass it.
    error = sys.exc_info()[1]
    if is_api_path(request.path):
        details = describe(error, request.path) if isinstance(error, Exception) else None
        if details is None:
            body = _body(request, 500, *_CODE_AND_DETAIL[500])
            return JsonResponse(body, status=500, content_type=PROBLEM)
        return details.response()
    outage = outage_of(error)
    if outage is None:
        return defaults.server_error(request)
    page = render_to_string("503.html")
    return HttpResponse(page, status=outage.status, headers=outage.headers)
