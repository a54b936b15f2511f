"""One thing of an owner's at a time on the converting workers, and its seconds counted, however it ends."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.db.models.functions import Now

from ipau.common.postgresql.retry import CONNECTION_ERRORS, persist
from market.models import ConversionAccount
from market.sandbox.budgets import count_seconds

logger = logging.getLogger(__name__)

# Renewed while a sandbox is at work, so that a worker that dies costs no more than this.
LEASE = timedelta(seconds=60)
RENEW_SECONDS = 10.0


@dataclass(frozen=True)
class Held:
    """The right to work for an owner, for as long as its account carries the token."""

    owner_id: UUID
    token: UUID


@contextmanager
def holding(owner_id: UUID, *, also_renew: Callable[[Held], Any] | None = None) -> Iterator[Held | None]:
    """Hold an owner's lease while the block runs; yield None where somebody else does.

    A thread with a connection of its own renews it, and counts the seconds.

    Args:
        also_renew: called in that thread each time, to renew what else is held.
    """
    held = persist(lambda: _take(owner_id))
    if held is None:
        yield None
        return
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(held, ended, also_renew), name="renew", daemon=True)
    # Within a transaction nobody sees the lease yet, so nobody can take it away either.
    if not connection.in_atomic_block:
        thread.start()
    try:
        yield held
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
        persist(lambda: _release(held))


@transaction.atomic
def _take(owner_id: UUID) -> Held | None:
    ConversionAccount.objects.bulk_create([ConversionAccount(owner_id=owner_id)], ignore_conflicts=True)
    account = _locked(ConversionAccount.objects.filter(pk=owner_id)).first()
    if account is None or (account.left is not None and account.left > timedelta()):
        return None
    if account.lease_token is not None:
        # Of one who was lost all is counted up to the last renewal: no more than this was missed.
        count_seconds(owner_id, min(RENEW_SECONDS, account.uncounted.total_seconds()))
    token = uuid4()
    ConversionAccount.objects.filter(pk=owner_id).update(
        lease_token=token, lease_expires_at=Now() + LEASE, counted_until=Now()
    )
    return Held(owner_id, token)


def _locked(rows: QuerySet[ConversionAccount]) -> QuerySet[Any]:
    """Lock rows; each tells whether somebody holds it, and the time that has not been counted yet."""
    elapsed = ExpressionWrapper(Now() - F("counted_until"), DurationField())
    left = ExpressionWrapper(F("lease_expires_at") - Now(), DurationField())
    return rows.select_for_update().annotate(uncounted=elapsed, left=left)


@transaction.atomic
def _release(held: Held) -> None:
    account = _locked(_rows(held)).first()
    # One that was lost has been counted by who took it over.
    if account is not None:
        count_seconds(held.owner_id, account.uncounted.total_seconds())
        _rows(held).update(lease_token=None, lease_expires_at=None, counted_until=None)


@transaction.atomic
def _extend(held: Held) -> None:
    account = _locked(_rows(held)).first()
    if account is not None:
        count_seconds(held.owner_id, account.uncounted.total_seconds())
        _rows(held).update(lease_expires_at=Now() + LEASE, counted_until=Now())


def _rows(held: Held) -> QuerySet[ConversionAccount]:
    return ConversionAccount.objects.filter(pk=held.owner_id, lease_token=held.token)


def _renew(held: Held, ended: threading.Event, also_renew: Callable[[Held], Any] | None) -> None:
    try:
        while not ended.wait(RENEW_SECONDS):
            try:
                _extend(held)
                if also_renew is not None:
                    also_renew(held)
            except CONNECTION_ERRORS:
                # The lease outlasts several such failures.
                logger.warning("The lease of %s was not renewed", held.owner_id, exc_info=True)
                connection.close()
    finally:
        connection.close()
