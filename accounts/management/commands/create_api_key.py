"""`./manage.py create_api_key EMAIL`: a key for scripts, printed once."""

import argparse
from typing import Any

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.db import transaction

from accounts.models import Scope, User
from accounts.services import create_api_key
from ipau.common.errors import DomainError


class Command(BaseCommand):
    help = "Make an API key for a person, who is created if there is none, and print only the key."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument(
            "--name", default="command line", help="what to call the key (default: %(default)s)"
        )
        parser.add_argument(
            "--scopes",
            default=",".join(Scope.values),
            help="what the key may do, with commas between (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        scopes = [scope.strip() for scope in options["scopes"].split(",") if scope.strip()]
        try:
            with transaction.atomic():
                user = find_or_create_person(email=options["email"])
                key = create_api_key(user=user, name=options["name"], scopes=scopes)
        except DomainError as error:
            raise CommandError(f"{error.message} Scopes are: {', '.join(Scope.values)}.") from error
        self.stdout.write(key.secret)


def find_or_create_person(*, email: str) -> User:
    """Return the person with this address; a new one has no password and a verified address.

    Raises:
        CommandError: it is no e-mail address.
    """
    try:
        validate_email(email)
    except ValidationError as error:
        raise CommandError(f"'{email}' is no e-mail address.") from error
    found = User.objects.filter(email__iexact=email).first()
    if found is not None:
        return found
    user = User.objects.create_user(email)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user
