"""Outbox of notices: workers claim due notices under a lease, send them and record the outcome.

If a worker dies, its lease expires and another one takes over. So a notice may be sent twice, with the same
id, but none is lost. All times are those of the database.
"""

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from ipau.common import leases
from ipau.common.errors import Conflict
from processing.models import Delivery, DeliveryState, JobMail, Notice

N = TypeVar("N", Delivery, JobMail)

# Longer than the longest attempt.
LEASE = timedelta(seconds=60)
# Seconds after the first failed attempt, the second, … After the last pause the notice fails.
PAUSES = (5, 30, 180, 900, 3600, 3 * 3600, 6 * 3600, 6 * 3600)
# Spreads retries to a receiver that was down.
JITTER = 0.25
# Notices of one account that are sent at the same time.
EACH = 2
LOG_LINES = 20
# Accounts that one claim considers.
MOST_OWNERS = 1000
# Old notices deleted in one sweep.
SWEEP = 5000


@dataclass(frozen=True)
class Outcome:
    """Outcome of one attempt.

    Args:
        problem: why it failed, as a sentence; empty for success.
        final: a retry would not help.
        took: duration in milliseconds.
    """

    problem: str = ""
    final: bool = False
    status: int | None = None
    answer: str = ""
    took: float = 0.0


def due(model: type[N]) -> QuerySet[N]:
    """Return due notices that no worker holds."""
    return model._default_manager.filter(leases.free(), state=DeliveryState.WAITING, next_at__lte=Now())


def is_due(model: type[N], *, owner_id: UUID | None = None) -> bool:
    """Return whether a notice is due, of one account or of any."""
    rows = due(model) if owner_id is None else due(model).filter(owner=owner_id)
    return rows.exists()


def claim(model: type[N], *, token: UUID, number: int, turns: int) -> list[N]:
    """Claim up to `number` due notices for a turn, spread over many accounts.

    Args:
        token: lease token of the turn.
        turns: maximum number of concurrent turns. Further turns claim nothing.
    """
    held = model._default_manager.filter(leases.held(), state=DeliveryState.WAITING)
    if held.exclude(lease_token=token).values("lease_token").distinct().count() >= turns:
        return []
    busy = dict(held.values_list("owner").annotate(number=Count("pk")))
    owners = list(due(model).values_list("owner", flat=True).distinct()[:MOST_OWNERS])
    # In random order, so that accounts with slow receivers do not always come first.
    random.shuffle(owners)
    chosen: list[UUID] = []
    with transaction.atomic():
        for owner_id in owners:
            room = min(EACH - busy.get(owner_id, 0), number - len(chosen))
            if room > 0:
                chosen += _next_of(model, owner_id, room)
        rows = model._default_manager.filter(pk__in=chosen)
        leases.claim(rows, token=token, lease=LEASE, updated_at=Now())
    return list(rows.order_by("created_at")) if chosen else []


def _next_of(model: type[N], owner_id: UUID, number: int) -> list[UUID]:
    """Lock due notices of an account and return their ids, longest wait first."""
    rows = due(model).filter(owner=owner_id)
    if model is Delivery:
        # Events of a job arrive in order, unless a first attempt fails.
        before = Delivery.objects.filter(
            Q(attempts=0) | Q(attempts=1, lease_token__isnull=False),
            job=OuterRef("job"),
            state=DeliveryState.WAITING,
            created_at__lt=OuterRef("created_at"),
        )
        rows = rows.exclude(Exists(before))
    rows = rows.order_by("next_at", "created_at").select_for_update(skip_locked=True)
    return list(rows.values_list("pk", flat=True)[:number])


def record(notice: Delivery | JobMail, outcome: Outcome) -> bool:
    """Record the outcome of an attempt; return whether this worker still held the notice."""
    changes = _state_after(notice, outcome)
    if isinstance(notice, Delivery):
        changes |= _facts_of(notice, outcome)
    rows = type(notice)._default_manager.filter(pk=notice.pk)
    return leases.release(rows, token=notice.lease_token, updated_at=Now(), **changes) > 0


def _state_after(notice: Notice, outcome: Outcome) -> dict[str, Any]:
    if not outcome.problem:
        state: dict[str, Any] = {"state": DeliveryState.DELIVERED, "next_at": None, "delivered_at": Now()}
    elif outcome.final or notice.attempts > len(PAUSES):
        state = {"state": DeliveryState.FAILED, "next_at": None}
    else:
        state = {"next_at": Now() + _pause_after(notice.attempts)}
    return {"problem": outcome.problem[:300], **state}


def _pause_after(attempts: int) -> timedelta:
    return timedelta(seconds=PAUSES[attempts - 1] * random.uniform(1, 1 + JITTER))


def _facts_of(delivery: Delivery, outcome: Outcome) -> dict[str, Any]:
    line = {
        "at": timezone.now().isoformat(),
        "status": outcome.status,
        "problem": outcome.problem,
        "took": round(outcome.took, 1),
    }
    return {
        "body": delivery.body,
        "status": outcome.status,
        "answer": outcome.answer,
        "took": line["took"],
        "log": [*delivery.log, line][-LOG_LINES:],
    }


def send_again(delivery: Delivery) -> None:
    """Make a delivery due now, in any state, with a fresh count of attempts.

    Raises:
        Conflict: it is being sent right now.
    """
    rows = Delivery.objects.filter(pk=delivery.pk).filter(leases.free())
    changed = rows.update(
        state=DeliveryState.WAITING,
        next_at=Now(),
        updated_at=Now(),
        **leases.never_claimed(),
    )
    if not changed:
        raise Conflict(_("This delivery is being sent right now. Try again in a moment."), code="being_sent")


def sweep(*, older_than: timedelta) -> int:
    """Delete older notices in any state; return the number deleted."""
    deleted = 0
    for rows in (Delivery.objects.all(), JobMail.objects.all()):
        old = rows.filter(created_at__lt=Now() - older_than).values_list("pk", flat=True)[:SWEEP]
        deleted += rows.filter(pk__in=list(old)).delete()[0]
    return deleted
