"""Middleware: body limit of forms, and pages or toasts for domain errors."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from ipau.common.api.views import domain_problem
from ipau.common.errors import DomainError, TooLarge

# Bytes of a form besides the file: names, boundaries, the CSRF token.
ENVELOPE = 1024 * 1024


class BodyLimitMiddleware:
    """Refuse a form that is too large before the CSRF check writes all of it to disk.

    Views without a CSRF check limit their bodies themselves. The API is checked too: it uses CSRF for
    sessions.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: object, kwargs: object
    ) -> HttpResponse | None:
        is_api = request.path.startswith("/v1/")
        if not (request.content_type or "").startswith("multipart/"):
            return None
        if getattr(view, "csrf_exempt", False) and not is_api:
            return None
        length = request.META.get("CONTENT_LENGTH") or ""
        if not length.isdecimal() or int(length) <= settings.UPLOAD_MAX_BYTES + ENVELOPE:
            return None
        error = TooLarge(f"This request is too large. The limit is {settings.UPLOAD_MAX_BYTES // 2**20} MB.")
        if not is_api:
            return render(request, "errors/domain.html", {"error": error}, status=error.status)
        return domain_problem(error, request.path).response()


class DomainErrorMiddleware:
    """Shows the message of an uncaught domain error: as a page, or as a toast for htmx requests."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, DomainError):
            return None
        partial = request.headers.get("HX-Request") == "true"
        template = "errors/toast.html" if partial else "errors/domain.html"
        response = render(request, template, {"error": error}, status=error.status)
        for name, value in error.headers.items():
            response[name] = value
        return response
