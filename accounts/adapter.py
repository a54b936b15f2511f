"""django-allauth adapter: sign-up, e-mail, and rate limits of sign-in."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.core.internal.ratelimit import RateLimitUsage
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from accounts import rate_limits
from accounts.models import User
from ipau.common.errors import Conflict
from ipau.common.http import concurrency

HANDLE_TRIES = 5


class AccountAdapter(DefaultAccountAdapter):
    _account_usage: RateLimitUsage | None = None

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send an e-mail within the request, because a queue must not store its code.

        A slow mail server blocks only some of the web threads. Raises as `concurrency.waiting`.
        """
        with concurrency.waiting():
            super().send_mail(template_prefix, email, context)

    def populate_username(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Set the handle of a new account. allauth calls this hook to choose a username."""
        if isinstance(user, User) and not user.handle:
            user.handle = User.objects.free_handle(user.email)

    def save_user(
        self, request: HttpRequest, user: AbstractBaseUser, form: Any, commit: bool = True
    ) -> AbstractBaseUser:
        """Save a new account.

        Raises:
            Conflict: a concurrent sign-up used the same address.
            RateLimited, Unavailable: too many requests wait for the mail server, or for something else.
        """
        # Otherwise the account could exist although its e-mail with the code was refused.
        concurrency.reserve()
        prepared = super().save_user(request, user, form, commit=False)
        self.populate_username(request, prepared)
        if commit and isinstance(prepared, User):
            _insert(prepared)
        return prepared

    # --- Rate limits: status 429. allauth itself shows a form error with status 200.

    def validation_error(self, code: str, *args: object) -> ValidationError:
        """Return the form error for a code. Raises a 429 response after too many sign-in attempts."""
        if code == "too_many_login_attempts":
            raise _refusal(context.request, rate_limits.LOGIN_WAIT_SECONDS)
        error: ValidationError = super().validation_error(code, *args)
        return error

    def add_message(self, request: HttpRequest, level: int, *args: Any, **named: Any) -> None:
        """Add a message to the next page. Raises a 429 response instead of a rate limit message."""
        if named.get("message") == self.error_messages["rate_limited"]:
            raise _refusal(request, rate_limits.WAIT_SECONDS)
        super().add_message(request, level, *args, **named)

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count a sign-in attempt. Raises ImmediateHttpResponse after too many."""
        super().pre_authenticate(request, **credentials)
        self._account_usage = rate_limits.count_attempt(request, _login_of(credentials))
        if self._account_usage is None:
            raise self.validation_error("too_many_login_attempts")

    def post_login(self, request: HttpRequest, user: AbstractBaseUser, **named: Any) -> HttpResponse:
        """Return the response after a sign-in, with the device cookie."""
        response: HttpResponse = super().post_login(request, user, **named)
        if isinstance(user, User):
            rate_limits.remember_device(request, response, user)
        return response

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        return rate_limits.attempts_key(request, _login_of(credentials))

    def _rollback_login_failed_rl_usage(self) -> None:
        super()._rollback_login_failed_rl_usage()
        if self._account_usage is not None:
            self._account_usage.rollback()

    def _delete_login_attempts_cached_email(self, request: HttpRequest, **credentials: Any) -> None:
        super()._delete_login_attempts_cached_email(request, **credentials)
        rate_limits.clear_attempts(request, _login_of(credentials))


def _login_of(credentials: dict[str, Any]) -> str:
    return str(credentials.get("email", ""))


def _refusal(request: HttpRequest, seconds: int) -> ImmediateHttpResponse:
    return ImmediateHttpResponse(rate_limits.too_many_requests(request, seconds=seconds))


def _insert(user: User) -> None:
    """Insert an account. If a concurrent sign-up takes the handle, retry with the next free one."""
    for _attempt in range(HANDLE_TRIES):
        try:
            with transaction.atomic():
                user.save(force_insert=True)
        except IntegrityError:
            if User.objects.filter(email__iexact=user.email).exists():
                break
            user.handle = User.objects.free_handle(user.email)
        else:
            return
    raise Conflict(_("Another sign-up happened at the same time. Sign in, or try again."))
