"""Base classes of the API: error format (RFC 9457), views, serializers, keyset pages, idempotency keys."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions, serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, set_rollback

from ipau.common.api.outages import outage_of
from ipau.common.api.parsers import JSONParser
from ipau.common.errors import DomainError, Invalid, TooLarge, title_of
from ipau.common.paging import paginate
from ipau.common.wording import for_programs

PROBLEM = "application/problem+json"
PAGE_SIZE = 50
PAGE_SIZE_MAX = 200
logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Model)

# --- Errors -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProblemDetails:
    """Status, body and headers of an error response."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    def response(self) -> JsonResponse:
        """Return a Django response, for code outside the views of the API."""
        return JsonResponse(self.body, status=self.status, headers=self.headers, content_type=PROBLEM)


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


def domain_problem(error: DomainError, instance: str) -> ProblemDetails:
    """Return the error response of a domain error."""
    body = problem(
        status=error.status,
        title=error.title,
        detail=error.message,
        code=error.code,
        instance=instance,
        fields=error.fields,
    )
    return ProblemDetails(error.status, body, error.headers)


def handle_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the problem of a domain or framework error or an outage; None for a bug, which becomes a 500."""
    details = describe(error, context["request"].path)
    if details is None:
        return None
    set_rollback()
    return Response(details.body, status=details.status, headers=details.headers, content_type=PROBLEM)


def describe(error: Exception, instance: str) -> ProblemDetails | None:
    """Return the error response of an exception, or None for a bug."""
    known = _translate(error)
    if isinstance(known, DomainError):
        return domain_problem(known, instance)
    if isinstance(known, exceptions.APIException):
        return _framework_problem(known, instance)
    return None


def _translate(error: Exception) -> Exception:
    """Convert errors of Django and of the services below it into errors of the API."""
    if isinstance(error, exceptions.NotAuthenticated):
        error.detail = exceptions.ErrorDetail("Send an API key as: Authorization: Bearer <key>.")
    if isinstance(error, exceptions.PermissionDenied):
        return _explain_token(error)
    if isinstance(error, exceptions.ValidationError):
        fields = error.detail if isinstance(error.detail, dict) else {}
        return Invalid(_sentence(error.detail), fields={str(k): _sentence(v) for k, v in fields.items()})
    if isinstance(error, exceptions.APIException | DomainError):
        return error
    if outage := outage_of(error):
        logger.error("A service does not answer: %s", error, exc_info=error)
        return outage
    return _translate_django(error)


def _explain_token(error: exceptions.PermissionDenied) -> exceptions.PermissionDenied:
    """Explain in a CSRF error how pages and programs authenticate."""
    kind, _, reason = str(error.detail).partition(": ")
    if kind == "CSRF Failed":
        error.detail = exceptions.ErrorDetail(
            f"{reason} Pages of this site send the value of the cookie “csrftoken” in the header "
            "X-CSRFToken (CSRF). Programs send an API key instead: Authorization: Bearer <key>."
        )
    return error


def _translate_django(error: Exception) -> Exception:
    if isinstance(error, Http404):
        return exceptions.NotFound()
    if isinstance(error, PermissionDenied):
        return exceptions.PermissionDenied()
    if isinstance(error, RequestDataTooBig):
        return TooLarge("This request is too large.")
    if isinstance(error, TooManyFieldsSent):
        return TooLarge(f"A form may have at most {settings.DATA_UPLOAD_MAX_NUMBER_FIELDS:,} fields.")
    if isinstance(error, TooManyFilesSent):
        return TooLarge(f"A form may have at most {settings.DATA_UPLOAD_MAX_NUMBER_FILES:,} files.")
    if isinstance(error, DisallowedHost):
        return WrongHost(
            "The Host header is not a name of this site. Ask its operator for the right address."
        )
    if isinstance(error, MultiPartParserError):
        return exceptions.ParseError(f"This form cannot be read: {error}.")
    if isinstance(error, UnreadablePostError):
        return exceptions.ParseError("The connection broke before the whole request arrived.")
    if isinstance(error, SuspiciousOperation | BadRequest):
        return exceptions.ParseError("This request cannot be read.")
    return error


class WrongHost(DomainError):
    """The Host header is not a name of this site."""

    code = "wrong_host"


def _framework_problem(error: exceptions.APIException, instance: str) -> ProblemDetails:
    body = problem(
        status=error.status_code,
        title=title_of(error.status_code),
        detail=_sentence(error.detail),
        code=error.default_code,
        instance=instance,
    )
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]  # set by DRF
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait))  # type: ignore[attr-defined]  # set by DRF
    return ProblemDetails(error.status_code, body, headers)


def _sentence(detail: Any) -> str:
    """Flatten DRF's nested error detail into one line."""
    if isinstance(detail, dict):
        return " ".join(f"{name}: {_sentence(inner)}" for name, inner in detail.items())
    if isinstance(detail, list):
        return " ".join(_sentence(inner) for inner in detail)
    return str(detail)


# --- Views --------------------------------------------------------------------------------------------


class AnswerAsIs(BaseContentNegotiation):
    """Content negotiation that ignores the Accept header: each resource has one representation."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        kind = request.content_type or ""
        main = kind.split(";")[0].strip().lower()
        return next((p for p in parsers if p.media_type == main), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        only = next(iter(renderers))
        return only, only.media_type


class LengthRequired(DomainError):
    """The body has no declared length, so its limit cannot be enforced."""

    status = 411
    code = "length_required"
    title = "Length required"


class ApiView(APIView):
    """Base class of every view of the API."""

    content_negotiation_class = AnswerAsIs
    parser_classes: Sequence[Any] = [JSONParser]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with for_programs():
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Django reads as many bytes as declared, so it reads nothing of a chunked body.
        if request.headers.get("Transfer-Encoding") and not request.META.get("CONTENT_LENGTH"):
            raise LengthRequired("Send this request with a Content-Length, not in chunks.")


class StrictSerializer(serializers.Serializer[Any]):
    """Request body that rejects unknown fields instead of ignoring them."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [str(name) for name in data if name not in self.fields]
            if unknown:
                raise exceptions.ValidationError({name: [f"Unknown field “{name}”."] for name in unknown})
        return super().to_internal_value(data)


def validated(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    """Return the validated data. Raises ValidationError with a sentence for each invalid field."""
    serializer.is_valid(raise_exception=True)
    data: dict[str, Any] = serializer.validated_data
    return data


class PageQuery(serializers.Serializer[Any]):
    """Query parameters of every list."""

    cursor = serializers.CharField(
        required=False, help_text="Position of the page. Use the URLs in `next` and `previous` instead."
    )
    limit = serializers.IntegerField(
        required=False,
        default=PAGE_SIZE,
        min_value=1,
        max_value=PAGE_SIZE_MAX,
        help_text="Maximum number of rows per page.",
    )


def row_response(
    request: Request, row: Any, serializer: type[serializers.BaseSerializer[Any]], *, status: int = 200
) -> Response:
    """Return a response with one row."""
    return Response(serializer(row, context={"request": request}).data, status=status)


def page_response(
    request: Request,
    rows: QuerySet[M],
    serializer: type[serializers.BaseSerializer[Any]],
    *,
    order: Sequence[str] = ("-id",),
    pinned: Sequence[str] = (),
) -> Response:
    """Return the requested page of a list: {previous, next, results}, with absolute URLs.

    Args:
        order, pinned: see `paginate`.
    """
    query = validated(PageQuery(data=request.query_params))
    page = paginate(rows, order=order, size=query["limit"], cursor=query.get("cursor"), pinned=pinned)
    return Response(
        {
            "previous": _page_address(request, page.previous),
            "next": _page_address(request, page.next),
            "results": serializer(page.rows, many=True, context={"request": request}).data,
        }
    )


def _page_address(request: Request, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    query = request.query_params.copy()
    query["cursor"] = cursor
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")


@cache
def page_of(serializer: type[serializers.BaseSerializer[Any]]) -> type[serializers.BaseSerializer[Any]]:
    """Return the serializer of a page of these rows, for the OpenAPI description."""
    name = serializer.__name__.removesuffix("Serializer") + "Page"
    fields = {
        "__doc__": "One page of a list.",
        "previous": serializers.URLField(allow_null=True, help_text="The previous page; null on the first."),
        "next": serializers.URLField(allow_null=True, help_text="The next page; null on the last."),
        "results": serializer(many=True),
    }
    return type(name, (serializers.Serializer,), fields)


# --- Idempotency --------------------------------------------------------------------------------------

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Any text of up to 255 characters. Use a new key for each new object. A repeated request "
    "with the same key creates nothing and returns the object that the first request created.",
)


def idempotency_key(request: Request) -> str | None:
    """Return the request's idempotency key, or None. Raises Invalid if it has a NUL character."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and "\0" in key:
        raise Invalid("An idempotency key cannot contain a NUL character.", code="idempotency_key")
    return key
