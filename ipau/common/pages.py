"""Pages: what a domain error looks like when it leaves a view."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from ipau.common.errors import DomainError


class DomainErrorMiddleware:
    """Answer an uncaught domain error with its sentence: a page, or a toast for an htmx request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, DomainError):
            return None
        partial = request.headers.get("HX-Request") == "true"
        template = "errors/toast.html" if partial else "errors/domain.html"
        return render(request, template, {"error": error}, status=error.status)
