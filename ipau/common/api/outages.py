"""Convert failures of PostgreSQL, Valkey, the broker and the storage into `Unavailable` (503)."""

import errno

from django.db import InterfaceError, InternalError, OperationalError
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError as BrokerError
from redis import exceptions as redis

from ipau.common.errors import Unavailable

# SQLSTATE class and code: the statement exceeds a limit; the server is read-only.
_STATEMENT_TOO_COMPLEX = "54"
_READ_ONLY = "25006"
_REDIS_DOWN = (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError)
# Valkey answers but stores nothing: its disk is full, or it waits for another server.
_REDIS_REFUSALS = ("MISCONF", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS")
_STORAGE_FULL = (errno.ENOSPC, errno.EDQUOT)
# The disk or the bucket fails: see `drive.storage.s3`.
_STORAGE_DOWN = (errno.EROFS, errno.EIO, errno.ESTALE)
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)


def outage_of(error: BaseException | None) -> Unavailable | None:
    """Return the outage that caused an error, or None if the error is a bug."""
    if _is_database(error):
        return Unavailable(_("The database does not answer. Try again in a few seconds."))
    if _is_redis(error):
        return Unavailable(_("A service of this site does not answer. Try again in a few seconds."))
    number = error.errno if isinstance(error, OSError) else None
    if number in _STORAGE_FULL:
        text = _("The server cannot store this just now. Please try again later.")
        return Unavailable(text, code="storage_full", retry_after=60)
    if number in _STORAGE_DOWN:
        text = _("The storage of this site does not answer. Try again in a few seconds.")
        return Unavailable(text, code="storage_down")
    if number in _TOO_MANY_FILES:
        return Unavailable(_("The server is very busy. Try again in a few seconds."), code="busy")
    return None


def _is_database(error: BaseException | None) -> bool:
    if isinstance(error, InterfaceError):
        return True
    state = str(getattr(error.__cause__, "sqlstate", None) or "") if error is not None else ""
    if isinstance(error, OperationalError):
        return not state.startswith(_STATEMENT_TOO_COMPLEX)
    return isinstance(error, InternalError) and state == _READ_ONLY


def _is_redis(error: BaseException | None) -> bool:
    if isinstance(error, redis.ResponseError) and str(error).startswith(_REDIS_REFUSALS):
        return True
    return isinstance(error, (*_REDIS_DOWN, BrokerError))
