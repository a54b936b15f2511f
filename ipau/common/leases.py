"""Leases: how a worker claims rows for a limited time, renews its claim, and gives rows back.

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
    """A leased row that counts its claims. A row that kills its workers is given up after a few."""

    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        abstract = True


L = TypeVar("L", bound=Leased)
# For statements that Django cannot write: the assignments of `released`, and the condition of `expired`. Put
# the table's name and a dot before the latter.
RELEASED_SQL = "lease_token = NULL, lease_expires_at = NULL"
EXPIRED_SQL = "lease_expires_at <= statement_timestamp()"


# --- Conditions.


def expired() -> Q:
    """Return the condition of rows whose lease has run out, which another worker may claim."""
    return Q(lease_expires_at__lte=Now())


def free() -> Q:
    """Return the condition of rows that nobody holds: never claimed, given back, or expired."""
    return Q(lease_expires_at__isnull=True) | expired()


def held(*, left: timedelta = timedelta()) -> Q:
    """Return the condition of rows that a worker holds.

    Args:
        left: the lease runs for longer than this. A negative time includes leases that ran out just now.
    """
    return Q(lease_expires_at__gt=Now() + left)


def is_whole() -> Q:
    """Return the check constraint that a token and its expiry come and go together."""
    return Q(lease_token__isnull=True, lease_expires_at__isnull=True) | Q(
        lease_token__isnull=False, lease_expires_at__isnull=False
    )


def owned(rows: QuerySet[L], token: UUID | None) -> QuerySet[L]:
    """Return those of the rows that carry a token. Without a token, none: NULL would match unclaimed rows."""
    return rows.none() if token is None else rows.filter(lease_token=token)


# --- Claims.


def claim_first(rows: QuerySet[L], *, lease: timedelta) -> L | None:
    """Claim the first row that is free and that no other worker locks; return None if there is none."""
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
    """Claim all of the rows in one UPDATE, and count an attempt; return how many they were.

    Args:
        rows: rows that the transaction has locked, or a queryset that selects by `free` itself.
        changes: further columns to write.
    """
    if issubclass(rows.model, LeasedWithAttempts):
        changes["attempts"] = F("attempts") + 1
    return rows.update(lease_token=token, lease_expires_at=Now() + lease, **changes)


def renew(rows: QuerySet[L], *, token: UUID | None, lease: timedelta, **changes: Any) -> bool:
    """Let a lease run for `lease` from now; return whether any of the rows still carries the token."""
    return owned(rows, token).update(lease_expires_at=Now() + lease, **changes) > 0


def release(rows: QuerySet[L], *, token: UUID | None, refund_attempt: bool = False, **changes: Any) -> int:
    """Give back those of the rows that still carry the token; return how many.

    Args:
        refund_attempt: the claim does not count as an attempt.
        changes: further columns to write, such as the outcome.
    """
    return owned(rows, token).update(**{**released(), **_refund(refund_attempt), **changes})


def let_expire(
    rows: QuerySet[L], *, token: UUID | None, after: timedelta, refund_attempt: bool = False, **changes: Any
) -> int:
    """As `release`, but nobody may claim the rows until `after` has passed."""
    changes = {"lease_expires_at": Now() + after, **_refund(refund_attempt), **changes}
    return owned(rows, token).update(**changes)


def released() -> dict[str, Any]:
    """Return the values of the columns of a row that nobody holds."""
    return {"lease_token": None, "lease_expires_at": None}


def never_claimed() -> dict[str, Any]:
    """Return the values of the columns of a row that has all its attempts before it."""
    return {**released(), "attempts": 0}


def _refund(refund_attempt: bool) -> dict[str, Any]:
    return {"attempts": F("attempts") - 1} if refund_attempt else {}


# --- Renewal.


@contextmanager
def renewing(renew: Callable[[], bool], *, every: float, name: str = "renew") -> Iterator[threading.Event]:
    """Renew a lease in a thread while the block runs; yield an event that is set when the lease is lost.

    The thread has a database connection of its own, which opens with its first query.

    Args:
        renew: called in the thread; returns whether the lease is still the holder's.
        every: seconds between two calls. They go on after the lease is lost.
        name: of the thread.
    """
    ended, lost = threading.Event(), threading.Event()
    thread = threading.Thread(target=_keep_renewing, args=(renew, every, ended, lost), name=name, daemon=True)
    # Within a transaction nobody sees the lease yet, so nobody can take it away either.
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
