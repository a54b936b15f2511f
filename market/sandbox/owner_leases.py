"""Lease per owner: one conversion or trial at a time, with its seconds counted even if the worker dies."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.db.models.functions import Now

from ipau.common import leases
from ipau.common.postgresql.retry import persist
from market.models import ConversionAccount
from market.sandbox.budgets import count_seconds

# Renewed while a sandbox runs. If the worker dies, the owner waits at most this long.
LEASE = timedelta(seconds=60)
RENEW_SECONDS = 10.0


@dataclass
class OwnerLease:
    """The lease of one owner. It is valid while the owner's `ConversionAccount` has the token.

    Attributes:
        also_renew: renews the lease of the work itself, if it has one. Returns whether the lease is still
            ours. Set it once the work is claimed.
        lost: set when a renewal finds that another worker has taken over.
    """

    owner_id: UUID
    token: UUID
    also_renew: Callable[[], bool] | None = None
    lost: threading.Event = field(default_factory=threading.Event)

    def renew(self) -> bool:
        """Renew all leases. Return whether the work is still ours."""
        is_ours = _extend(self)
        return is_ours if self.also_renew is None else self.also_renew()


@contextmanager
def acquire(owner_id: UUID) -> Iterator[OwnerLease | None]:
    """Hold an owner's lease during the block. Yields None if another worker holds it.

    A thread with its own connection renews the lease and counts the seconds.
    """
    lease = persist(lambda: _claim(owner_id))
    if lease is None:
        yield None
        return
    try:
        with leases.renewing(lease.renew, every=RENEW_SECONDS) as lease.lost:
            yield lease
    finally:
        persist(lambda: _release(lease))


@transaction.atomic
def _claim(owner_id: UUID) -> OwnerLease | None:
    ConversionAccount.objects.bulk_create([ConversionAccount(owner_id=owner_id)], ignore_conflicts=True)
    rows = ConversionAccount.objects.filter(pk=owner_id)
    account = _locked(rows.filter(leases.free())).first()
    if account is None:
        return None
    if account.lease_token is not None:
        # The previous worker died. Count its time since its last renewal, at most one interval.
        count_seconds(owner_id, min(RENEW_SECONDS, account.uncounted.total_seconds()))
    token = uuid4()
    leases.claim(rows, token=token, lease=LEASE, counted_until=Now())
    return OwnerLease(owner_id, token)


def _locked(rows: QuerySet[ConversionAccount]) -> QuerySet[Any]:
    """Lock rows and annotate each with the time not counted yet (`uncounted`)."""
    elapsed = ExpressionWrapper(Now() - F("counted_until"), DurationField())
    return rows.select_for_update().annotate(uncounted=elapsed)


@transaction.atomic
def _release(lease: OwnerLease) -> None:
    account = _locked(_rows(lease)).first()
    # If the lease was lost, the worker that took it over has counted the time.
    if account is not None:
        count_seconds(lease.owner_id, account.uncounted.total_seconds())
        leases.release(_rows(lease), token=lease.token, counted_until=None)


@transaction.atomic
def _extend(lease: OwnerLease) -> bool:
    account = _locked(_rows(lease)).first()
    if account is None:
        return False
    count_seconds(lease.owner_id, account.uncounted.total_seconds())
    return leases.renew(_rows(lease), token=lease.token, lease=LEASE, counted_until=Now())


def _rows(lease: OwnerLease) -> QuerySet[ConversionAccount]:
    return leases.owned(ConversionAccount.objects.filter(pk=lease.owner_id), lease.token)
