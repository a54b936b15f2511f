"""Database backend for PostgreSQL. Django requires this module's name."""

from __future__ import annotations

import select

from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQL


class DatabaseWrapper(PostgreSQL):
    """Django's wrapper, without a query for the health check of each request.

    A server that closes a connection sends a message, so the socket becomes readable. Only then this class
    runs the query that Django runs for every request.
    """

    def is_usable(self) -> bool:
        if self.connection is None or self.connection.closed:
            return False
        waiting = select.poll()
        waiting.register(self.connection.fileno(), select.POLLIN)
        return not waiting.poll(0) or bool(super().is_usable())
