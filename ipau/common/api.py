"""The API's error format: every error is problem+json, whatever raised it."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from ipau.common.errors import DomainError


def problem(
    *, status: int, title: str, detail: str, code: str, instance: str, fields: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the body of an error (RFC 9457), with the `message` that hosted-inference clients show."""
    body: dict[str, Any] = {
        "type": f"about:blank#{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "message": detail,
        "instance": instance,
    }
    if fields:
        body["errors"] = fields
    return body


def handle_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn a domain or framework error into a problem response; None lets a bug become a 500."""
    instance = context["request"].path
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, DomainError):
        set_rollback()
        body = problem(
            status=error.status,
            title=error.title,
            detail=error.message,
            code=error.code,
            instance=instance,
            fields=error.fields,
        )
        return Response(body, status=error.status, content_type="application/problem+json")
    if isinstance(error, exceptions.APIException):
        set_rollback()
        return _framework_problem(error, instance)
    return None


def _framework_problem(error: exceptions.APIException, instance: str) -> Response:
    fields = error.detail if isinstance(error, exceptions.ValidationError) else None
    body = problem(
        status=error.status_code,
        title=str(error.default_detail).rstrip("."),
        detail=_sentence(error.detail),
        code=error.default_code,
        instance=instance,
        fields={str(k): _sentence(v) for k, v in fields.items()} if isinstance(fields, dict) else None,
    )
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]  # set by DRF
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait))  # type: ignore[attr-defined]  # set by DRF
    return Response(body, status=error.status_code, headers=headers, content_type="application/problem+json")


def _sentence(detail: Any) -> str:
    """Flatten DRF's nested error detail into one line."""
    if isinstance(detail, dict):
        return " ".join(f"{name}: {_sentence(inner)}" for name, inner in detail.items())
    if isinstance(detail, list):
        return " ".join(_sentence(inner) for inner in detail)
    return str(detail)
