"""The connection to PostgreSQL. Django finds it by this module's name."""

from __future__ import annotations

import select

from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQL


class DatabaseWrapper(PostgreSQL):
    """As Django's, but a connection at rest is asked nothing before a request uses it again.

    A server that ends a connection, because it stops or is told to, says so at once: then there is something
    to read. Only then the connection is asked, as Django does with every request.
    """

    def is_usable(self) -> bool:
        if self.connection is None or self.connection.closed:
            return False
        waiting = select.poll()
        waiting.register(self.connection.fileno(), select.POLLIN)
        return not waiting.poll(0) or bool(super().is_usable())
