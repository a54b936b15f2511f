"""Domain errors. Services raise them. Handlers convert them into API problems or messages on pages."""

from collections.abc import Mapping
from http import HTTPStatus

# The message for bugs.
OUR_FAULT = "Something went wrong on our side. It has been logged."


class DomainError(Exception):
    """An error that the user can understand and act on. `message` is shown as it is.

    `retry_after`: seconds after which the same request may succeed; None if waiting does not help.
    """

    status = 400
    code = "invalid"
    title = "Bad request"
    retry_after: int | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        fields: Mapping[str, str] | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.fields = dict(fields or {})
        self.retry_after = retry_after or self.retry_after

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers of a response with this error."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class Invalid(DomainError):
    """The input is invalid. `fields` maps each invalid field to a sentence."""

    status = 422
    title = "Invalid input"


class NotFound(DomainError):
    """The object does not exist or belongs to another account. Both get the same response."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(DomainError):
    """The object's state does not allow this."""

    status = 409
    code = "conflict"
    title = "Conflict"


class Forbidden(DomainError):
    """The API key or the account lacks the permission."""

    status = 403
    code = "forbidden"
    title = "Forbidden"


class TooLarge(DomainError):
    """The input has more bytes or pixels than the limit."""

    status = 413
    code = "too_large"
    title = "Too large"


class RateLimited(DomainError):
    """Too many requests in a short time."""

    status = 429
    code = "rate_limited"
    title = "Too many requests"
    retry_after = 5


class Unavailable(DomainError):
    """A part of the system does not answer. The same request may succeed later."""

    status = 503
    code = "unavailable"
    title = "Unavailable"
    retry_after = 5


class TimedOut(DomainError):
    """The work took longer than the limit for an immediate response."""

    status = 504
    code = "timed_out"
    title = "Timed out"


_KINDS = (DomainError, Invalid, NotFound, Conflict, Forbidden, TooLarge, RateLimited, Unavailable, TimedOut)
_TITLES = {kind.status: kind.title for kind in _KINDS}


def title_of(status: int) -> str:
    """Return the title of an HTTP error status: its domain error's, or else the phrase, in sentence case."""
    first, *rest = HTTPStatus(status).phrase.split()
    phrase = " ".join([first, *(word if word.isupper() else word.lower() for word in rest)])
    return _TITLES.get(status, phrase)
