"""Errors under `/v1` that no view of the API has told: every one of them becomes problem+json as well.

Middleware, the address itself or an outage may end a request before a view of the API sees it.
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
from ipau.common.errors import OUR_FAULT

# However an address of the API is misspelt, a program has asked for it. Probes are programs too.
_API = re.compile(r"/+v1(?:/|\Z)|/(?:healthz|readyz)/*\Z", re.IGNORECASE)
_PREFIX = re.compile(r"\A/v1(?=/|\Z)", re.IGNORECASE)
_SLASHES = re.compile(r"/{2,}")
# Code and sentence of a status that came without them.
_TOLD = {
    400: ("parse_error", "This request cannot be read."),
    403: ("permission_denied", "This request is not allowed."),
    413: ("too_large", "This request carries too many bytes."),
    416: ("range_not_satisfiable", "There are no such bytes. Content-Range tells how many there are."),
    500: ("internal", OUR_FAULT),
    503: ("unavailable", "The site does not answer just now. Try again in a few seconds."),
}
_HTTPS = "The API is reached by https alone. Send this request to an address that begins with https://."


def is_api_path(path: str) -> bool:
    """Tell whether errors at this path are told to programs: as problem+json, never as a page."""
    return _API.match(path) is not None


class ProblemMiddleware:
    """Turns every error under the API that is not told as a problem into one. It must come first."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not is_api_path(request.path):
            return response
        if response.status_code == HTTPStatus.MOVED_PERMANENTLY and request.method not in SAFE_METHODS:
            # Clients follow this redirect by GET, which would answer with something else, as a success.
            del response["Location"]
            return _rewrite(response, request, 403, "https_required", _HTTPS)
        if response.status_code < 400:
            return response
        if response.get("Content-Type", "").startswith(PROBLEM):
            # An error of the outermost middleware has passed none that adds these.
            response.setdefault("X-Content-Type-Options", "nosniff")
            response.setdefault("Content-Length", str(len(response.content)))
            return response
        return _rewrite(response, request, response.status_code, *_told(request, response))


def _told(request: HttpRequest, response: HttpResponse) -> tuple[str, str]:
    status = response.status_code
    if status == HTTPStatus.NOT_FOUND:
        return "not_found", _not_found_sentence(request.path)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = response.get("Allow", "")
        return "method_not_allowed", f"Method “{request.method}” is not allowed here. Allowed: {allowed}."
    phrase = HTTPStatus(status).phrase
    return _TOLD.get(status, (phrase.lower().replace(" ", "_"), f"{phrase}."))


def _rewrite(
    response: HttpResponse, request: HttpRequest, status: int, code: str, detail: str
) -> HttpResponse:
    """Give a response the body of a problem. Its headers stay: Allow, Retry-After, those of safety."""
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
    title = HTTPStatus(status).phrase
    return problem(status=status, title=title, detail=detail, code=code, instance=request.path)


@csrf_exempt
def not_found(request: HttpRequest) -> HttpResponse:
    """Answer an address under the API that names nothing, whatever the method."""
    body = _body(request, 404, "not_found", _not_found_sentence(request.path))
    return JsonResponse(body, status=404, content_type=PROBLEM)


def _not_found_sentence(path: str) -> str:
    if meant := _meant(path):
        return f"There is nothing at this address. Did you mean {meant}?"
    return "There is nothing at this address. The API is described at /v1/openapi.json."


def _meant(path: str) -> str | None:
    """Return the address that a path is another spelling of, with slashes too many or a capital V."""
    better = _PREFIX.sub("/v1", _SLASHES.sub("/", path)).rstrip("/")
    try:
        found = resolve(better) if better != path else None
    except Resolver404:
        return None
    return better if found is not None and found.func is not not_found else None


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that cannot be read: with a problem under the API, with a page elsewhere."""
    told = describe(exception, request.path) if is_api_path(request.path) else None
    if told is None:
        return defaults.bad_request(request, exception)
    return told.response()


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer where we failed, or a service under us: with a problem under the API, with a page elsewhere."""
    # Django calls this while it handles the exception, and does not hand it over.
    error = sys.exc_info()[1]
    if is_api_path(request.path):
        told = describe(error, request.path) if isinstance(error, Exception) else None
        if told is None:
            return JsonResponse(_body(request, 500, *_TOLD[500]), status=500, content_type=PROBLEM)
        return told.response()
    outage = outage_of(error)
    if outage is None:
        return defaults.server_error(request)
    page = render_to_string("503.html")
    return HttpResponse(page, status=outage.status, headers=outage.headers)
