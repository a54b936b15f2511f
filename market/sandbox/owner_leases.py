"""One thing of an owner's at a time on the converting workers, and its seconds counted, however it ends."""

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

# Renewed while a sandbox is at work, so that a worker that dies costs no more than this.
LEASE = timedelta(seconds=60)
RENEW_SECONDS = 10.0


@dataclass
class Held:
    """The right to work for an owner, for as long as its account carries the token.

    Attributes:
        also_renew: renews the lease of the work itself, where that has one, and returns whether it is still
            ours. Set it once the work is claimed.
        lost: set when a renewal finds that another worker has taken over the work.
    """

    owner_id: UUID
    token: UUID
    also_renew: Callable[[], bool] | None = None
    lost: threading.Event = field(default_factory=threading.Event)

    def renew(self) -> bool:
        """Renew all that is held; return whether the work is still ours."""
        is_ours = _extend(self)
        return is_ours if self.also_renew is None else self.also_renew()


@contextmanager
def holding(owner_id: UUID) -> Iterator[Held | None]:
    """Hold an owner's lease while the block runs; yield None where somebody else does.

    A thread with a connection of its own renews it, and counts the seconds.
    """
    held = persist(lambda: _take(owner_id))
    if held is None:
        yield None
        return
    try:
        with leases.renewing(held.renew, every=RENEW_SECONDS) as held.lost:
            yield held
    finally:
        persist(lambda: _release(held))


@transaction.atomic
def _take(owner_id: UUID) -> Held | None:
    ConversionAccount.objects.bulk_create([ConversionAccount(owner_id=owner_id)], ignore_conflicts=True)
    rows = ConversionAccount.objects.filter(pk=owner_id)
    account = _locked(rows.filter(leases.free())).first()
    if account is None:
        return None
    if account.lease_token is not None:
        # Of one who was lost all is counted up to the last renewal: no more than this was missed.
        count_seconds(owner_id, min(RENEW_SECONDS, account.uncounted.total_seconds()))
    token = uuid4()
    leases.claim(rows, token=token, lease=LEASE, counted_until=Now())
    return Held(owner_id, token)


def _locked(rows: QuerySet[ConversionAccount]) -> QuerySet[Any]:
    """Lock rows; each tells the time that has not been counted yet."""
    elapsed = ExpressionWrapper(Now() - F("counted_until"), DurationField())
    return rows.select_for_update().annotate(uncounted=elapsed)


@transaction.atomic
def _release(held: Held) -> None:
    account = _locked(_rows(held)).first()
    # One that was lost has been counted by who took it over.
    if account is not None:
        count_seconds(held.owner_id, account.uncounted.total_seconds())
        leases.release(_rows(held), token=held.token, counted_until=None)


@transaction.atomic
def _extend(held: Held) -> bool:
    account = _locked(_rows(held)).first()
    if account is None:
        return False
    count_seconds(held.owner_id, account.uncounted.total_seconds())
    return leases.renew(_rows(held), token=held.token, lease=LEASE, counted_until=Now())


def _rows(held: Held) -> QuerySet[ConversionAccount]:
    return leases.owned(ConversionAccount.objects.filter(pk=held.owner_id), held.token)
