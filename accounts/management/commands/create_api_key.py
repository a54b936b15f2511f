"""`./manage.py create_api_key EMAIL`: create an API key and print it once."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.models import Scope
from accounts.services import create_api_key, find_or_create_user
from ipau.common.errors import DomainError


class Command(BaseCommand):
    help = (
        "Create an API key and print only the key. Create the account if no account has this e-mail address."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("email", help="e-mail address of the account")
        parser.add_argument("--name", default="command line", help="name of the key (default: %(default)s)")
        parser.add_argument(
            "--scopes",
            default=",".join(Scope.values),
            help="scopes of the key, separated by commas (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        scopes = [scope.strip() for scope in options["scopes"].split(",") if scope.strip()]
        try:
            with transaction.atomic():
                user = find_or_create_user(email=options["email"])
                key = create_api_key(user=user, name=options["name"], scopes=scopes)
        except DomainError as error:
            hint = "" if "email" in error.fields else f" Valid scopes: {', '.join(Scope.values)}."
            raise CommandError(error.message + hint) from error
        self.stdout.write(key.secret)
