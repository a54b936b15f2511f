"""How django-allauth makes our users."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from accounts.models import User


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth is untyped
    def populate_username(self, request: HttpRequest, user: User) -> None:
        """Give a new person a handle; allauth calls this where other sites choose a username."""
        if not user.handle:
            user.handle = User.objects.free_handle(user.email)

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        user.email = form.cleaned_data["email"]
        self.populate_username(request, user)
        saved: User = super().save_user(request, user, form, commit=commit)
        return saved
