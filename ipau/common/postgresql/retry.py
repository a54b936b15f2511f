"""Retry database work after a lost connection."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

T = TypeVar("T")
# The connection was lost, the server restarts, or it resolved a deadlock by canceling our transaction.
CONNECTION_ERRORS = (OperationalError, InterfaceError)
# Seconds between attempts. PostgreSQL restarts within their sum, and a lease lasts longer.
PAUSES = (0.1, 1.0, 3.0, 6.0)


def persist(call: Callable[[], T]) -> T:
    """Call an idempotent function; retry on a new connection if the connection fails.

    Raises:
        OperationalError, InterfaceError: all attempts failed, or the caller is inside a transaction.
    """
    for pause in PAUSES:
        try:
            return call()
        except CONNECTION_ERRORS:
            if connection.in_atomic_block:
                raise
            logger.warning("The database connection failed; retrying in %s s", pause, exc_info=True)
            connection.close()
            time.sleep(pause)
    return call()
