"""Domain errors. Services raise them; one handler turns them into HTTP, another into messages on pages."""

from collections.abc import Mapping

# What people read where the program has failed, not they.
OUR_FAULT = "Something went wrong on our side. It has been logged."


class DomainError(Exception):
    """Something a person can understand and act on. `message` is shown to them as it stands.

    `retry_after`: seconds after which the same request may work; None where waiting does not help.
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
        """The headers that an answer with this error has."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class Invalid(DomainError):
    """What was sent cannot be used. `fields` names the culprits."""

    status = 422
    title = "Invalid input"


class NotFound(DomainError):
    """There is no such thing, or it belongs to somebody else: the two are told alike."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(DomainError):
    """The thing is not in a state that allows this."""

    status = 409
    code = "conflict"
    title = "Conflict"


class Forbidden(DomainError):
    """The key or the person lacks the right."""

    status = 403
    code = "forbidden"
    title = "Forbidden"


class TooLarge(DomainError):
    """More bytes or pixels than are accepted."""

    status = 413
    code = "too_large"
    title = "Too large"


class RateLimited(DomainError):
    """Too many requests in too short a time."""

    status = 429
    code = "rate_limited"
    title = "Too many requests"
    retry_after = 5


class Unavailable(DomainError):
    """A part of the system does not answer now; trying again later may help."""

    status = 503
    code = "unavailable"
    title = "Unavailable"
    retry_after = 5


class TimedOut(DomainError):
    """The work took longer than an immediate answer may take."""

    status = 504
    code = "timed_out"
    title = "Timed out"
