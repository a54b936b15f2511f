"""Command `flush`, which Django calls after each test that commits."""

from typing import Any

from django.core.management.commands import flush
from django.db import connections

from tests.emptying import tables


class Command(flush.Command):
    """Restore the saved initial rows if there are any, else flush as Django does."""

    def handle(self, **options: Any) -> None:
        connection = connections[options["database"]]
        if options["interactive"] or not tables.are_kept(connection):
            super().handle(**options)
        else:
            tables.restore(connection)
