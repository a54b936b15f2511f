"""Leases: a worker claims rows for a limited time, renews the lease, and releases the rows.

A row belongs to the worker that wrote its `lease_token`, until `lease_expires_at`. Then another worker may
claim it. Only the database's clock decides that: workers' clocks may differ. No other module writes these
columns.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.db import connection, models, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from ipau.common.postgresql.retry import CONNECTION_ERRORS

logger = logging.getLogger(__name__)


class Leased(models.Model):
    """A row that one worker at a time may claim. Both columns are set, or neither is."""

    lease_token = models.UUIDField(null=True, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class LeasedWithAttempts(Leased):
    """A leased row that counts its claims, so that a row that kills its workers is not claimed forever."""

    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        abstract = True


L = TypeVar("L", bound=Leased)
# For raw SQL: the assignments of `released`, and the condition of `expired`. Prefix the condition with the
# table's name and a dot.
RELEASED_SQL = "lease_token = NULL, lease_expires_at = NULL"
EXPIRED_SQL = "lease_expires_at <= statement_timestamp()"


# --- Conditions.


def expired() -> Q:
    """Return the condition of rows with an expired lease, which another worker may claim."""
    return Q(lease_expires_at__lte=Now())


def free() -> Q:
    """Return the condition of rows that no worker holds: never claimed, released or expired."""
    return Q(lease_expires_at__isnull=True) | expired()


def held(*, left: timedelta = timedelta()) -> Q:
    """Return the condition of rows that a worker holds.

    Args:
        left: the lease has more than this time left. A negative time includes leases that expired recently.
    """
    return Q(lease_expires_at__gt=Now() + left)


def is_whole() -> Q:
    """Return the check constraint that a row has both a token and an expiry, or neither."""
    return Q(lease_token__isnull=True, lease_expires_at__isnull=True) | Q(
        lease_token__isnull=False, lease_expires_at__isnull=False
    )


def owned(rows: QuerySet[L], token: UUID | None) -> QuerySet[L]:
    """Return the rows with this token. Without a token, return none: NULL would match unclaimed rows."""
    return rows.none() if token is None else rows.filter(lease_token=token)


# --- Claims.


def claim_first(rows: QuerySet[L], *, lease: timedelta) -> L | None:
    """Claim and return the first free row that no other worker locks, or None if there is none."""
    with transaction.atomic():
        row = rows.filter(free()).select_for_update(of=("self",), skip_locked=True).first()
        if row is None:
            return None
        token = uuid4()
        claim(type(row)._default_manager.filter(pk=row.pk), token=token, lease=lease)
    row.lease_token = token
    if isinstance(row, LeasedWithAttempts):
        row.attempts += 1
    return row


def claim(rows: QuerySet[L], *, token: UUID, lease: timedelta, **changes: Any) -> int:
    """Claim all rows in one UPDATE and count an attempt; return the number of rows.

    Args:
        rows: rows that the transaction has locked, or a queryset that filters by `free` itself.
        changes: further columns to write.
    """
    if issubclass(rows.model, LeasedWithAttempts):
        changes["attempts"] = F("attempts") + 1
    return rows.update(lease_token=token, lease_expires_at=Now() + lease, **changes)


def renew(rows: QuerySet[L], *, token: UUID | None, lease: timedelta, **changes: Any) -> bool:
    """Extend a lease to `lease` from now; return whether any row still has the token."""
    return owned(rows, token).update(lease_expires_at=Now() + lease, **changes) > 0


def release(rows: QuerySet[L], *, token: UUID | None, refund_attempt: bool = False, **changes: Any) -> int:
    """Release the rows that still have the token; return how many.

    Args:
        refund_attempt: the claim does not count as an attempt.
        changes: further columns to write, such as the outcome.
    """
    return owned(rows, token).update(**{**released(), **_refund(refund_attempt), **changes})


def let_expire(
    rows: QuerySet[L], *, token: UUID | None, after: timedelta, refund_attempt: bool = False, **changes: Any
) -> int:
    """Release as `release` does, but block new claims of the rows until `after` has passed."""
    changes = {"lease_expires_at": Now() + after, **_refund(refund_attempt), **changes}
    return owned(rows, token).update(**changes)


def released() -> dict[str, Any]:
    """Return the lease columns of a row that no worker holds."""
    return {"lease_token": None, "lease_expires_at": None}


def never_claimed() -> dict[str, Any]:
    """Return the lease columns of a row that was never claimed."""
    return {**released(), "attempts": 0}


def _refund(refund_attempt: bool) -> dict[str, Any]:
    return {"attempts": F("attempts") - 1} if refund_attempt else {}


# --- Renewal.


@contextmanager
def renewing(renew: Callable[[], bool], *, every: float, name: str = "renew") -> Iterator[threading.Event]:
    """Renew a lease in a thread while the block runs; yield an event that is set when the lease is lost.

    The thread has a database connection of its own, which opens with its first query.

    Args:
        renew: called in the thread; returns whether the worker still holds the lease.
        every: seconds between two calls. Calls continue after the lease is lost.
        name: the thread's name.
    """
    ended, lost = threading.Event(), threading.Event()
    thread = threading.Thread(target=_keep_renewing, args=(renew, every, ended, lost), name=name, daemon=True)
    # Inside a transaction no other worker sees the lease yet, so none can take it.
    if not connection.in_atomic_block:
        thread.start()
    try:
        yield lost
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


def _keep_renewing(
    renew: Callable[[], bool], every: float, ended: threading.Event, lost: threading.Event
) -> None:
    try:
        while not ended.wait(every):
            try:
                if not renew():
                    lost.set()
            except CONNECTION_ERRORS:
                # A lease outlasts several such failures.
                logger.warning("A lease was not renewed", exc_info=True)
                connection.close()
    finally:
        connection.close()
