"""Work that outlives a lost connection to the database."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

T = TypeVar("T")
# The connection was cut, the server restarts, or it ended a deadlock at our cost.
CONNECTION_ERRORS = (OperationalError, InterfaceError)
# Seconds between attempts. PostgreSQL restarts within them, and a lease outlasts their sum.
PAUSES = (0.1, 1.0, 3.0, 6.0)


def persist(call: Callable[[], T]) -> T:
    """Call something that may as well be done twice; again, on a new connection, where that one failed.

    Raises:
        OperationalError, InterfaceError: it failed every time, or within a transaction of the caller's.
    """
    for pause in PAUSES:
        try:
            return call()
        except CONNECTION_ERRORS:
            if connection.in_atomic_block:
                raise
            logger.warning("The database failed; another attempt follows", exc_info=True)
            connection.close()
            time.sleep(pause)
    return call()
