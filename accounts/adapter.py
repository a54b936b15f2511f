"""How django-allauth makes our users."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _

from accounts.models import User
from ipau.common import concurrency
from ipau.common.errors import Conflict

HANDLE_TRIES = 5


class AccountAdapter(DefaultAccountAdapter):
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
