"""`flush` as Django's tests call it after each test that commits."""

from typing import Any

from django.core.management.commands import flush
from django.db import connections

from tests.emptying import tables


class Command(flush.Command):
    """Where the rows of the beginning were kept, put them back; everywhere else do what Django does."""

    def handle(self, **options: Any) -> None:
        connection = connections[options["database"]]
        if options["interactive"] or not tables.are_kept(connection):
            super().handle(**options)
        else:
            tables.restore(connection)
