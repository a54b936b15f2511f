"""Addresses of actions in a browser: GET leads to the page that has the button, never to a bare 405.

People get there by a bookmark, by Back, or after a sign-in that returns to the address of a form.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import Resolver404, resolve


class ActionPageMiddleware:
    """Redirect GET of an address that only accepts forms to the nearest page above it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        is_page = not request.path.startswith("/v1/")
        if is_page and response.status_code == 405 and request.method in ("GET", "HEAD"):
            return HttpResponseRedirect(page_above(request.path))
        return response


def page_above(path: str) -> str:
    """Return the nearest address above `path` that exists. It may be one of an action again."""
    parts = path.strip("/").split("/")
    for count in range(len(parts) - 1, 0, -1):
        above = "/" + "/".join(parts[:count]) + "/"
        try:
            resolve(above)
        except Resolver404:
            continue
        return above
    return "/"
