"""How django-allauth makes our users."""

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
        """Send a mail within the request, because no queue shall hold its code.

        A mail server that is slow holds a part of the web threads. Raises as `concurrency.waiting`.
        """
        with concurrency.waiting():
            super().send_mail(template_prefix, email, context)

    def populate_username(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Give a new person a handle; allauth calls this where other sites choose a username."""
        if isinstance(user, User) and not user.handle:
            user.handle = User.objects.free_handle(user.email)

    def save_user(
        self, request: HttpRequest, user: AbstractBaseUser, form: Any, commit: bool = True
    ) -> AbstractBaseUser:
        """Save a new person.

        Raises:
            Conflict: somebody signed up with this address in the same moment.
            RateLimited, Unavailable: too many requests wait for the mail server, or for something else.
        """
        # Otherwise the person could be there, and the mail with their code be refused.
        concurrency.reserve()
        prepared = super().save_user(request, user, form, commit=False)
        self.populate_username(request, prepared)
        if commit and isinstance(prepared, User):
            _insert(prepared)
        return prepared

    # --- Rate limits, which allauth would show as an error of the form, with status 200.

    def validation_error(self, code: str, *args: object) -> ValidationError:
        """Return what is wrong with a form; an attempt too many is answered with 429 instead."""
        if code == "too_many_login_attempts":
            raise _refusal(context.request, rate_limits.LOGIN_WAIT_SECONDS)
        error: ValidationError = super().validation_error(code, *args)
        return error

    def add_message(self, request: HttpRequest, level: int, *args: Any, **named: Any) -> None:
        """Leave a message for the next page; that of a limit is answered with 429 instead."""
        if named.get("message") == self.error_messages["rate_limited"]:
            raise _refusal(request, rate_limits.WAIT_SECONDS)
        super().add_message(request, level, *args, **named)

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count an attempt to sign in. Raises ImmediateHttpResponse after too many."""
        super().pre_authenticate(request, **credentials)
        self._account_usage = rate_limits.count_attempt(request, _login_of(credentials))
        if self._account_usage is None:
            raise self.validation_error("too_many_login_attempts")

    def post_login(self, request: HttpRequest, user: AbstractBaseUser, **named: Any) -> HttpResponse:
        """Answer somebody who has signed in, and remember the browser."""
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
        rate_limits.forget_attempts(request, _login_of(credentials))


def _login_of(credentials: dict[str, Any]) -> str:
    return str(credentials.get("email", ""))


def _refusal(request: HttpRequest, seconds: int) -> ImmediateHttpResponse:
    return ImmediateHttpResponse(rate_limits.too_many_requests(request, seconds=seconds))


def _insert(user: User) -> None:
    """Insert a person; two who sign up at once may be given one handle, then the second gets the next."""
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
    raise Conflict(_("This sign-up met another one. Sign in, or try again."))
