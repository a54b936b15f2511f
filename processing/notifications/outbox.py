"""The outbox: notices that wait, lent to a worker under a lease, and what came of them.

A worker that dies with one leaves it to the next when the lease has run out. So one may be sent twice, which
its id tells a receiver, and none is forgotten. Times are the database's.
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

# Outlasts the longest attempt.
LEASE = timedelta(seconds=60)
# Seconds after the first failed attempt, the second, … After the last the notice is given up.
PAUSES = (5, 30, 180, 900, 3600, 3 * 3600, 6 * 3600, 6 * 3600)
# So that a receiver that was down is not asked by all at once when it is back.
JITTER = 0.25
# So many notices of one person are on their way at once, however many wait.
EACH = 2
LOG_LINES = 20
# One look considers the notices of so many people.
MOST_OWNERS = 1000
# Old notices are deleted so many at a time.
SWEEP = 5000


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt.

    Args:
        problem: why it failed, as a sentence; empty: it did not.
        final: trying again would be of no use.
        took: milliseconds.
    """

    problem: str = ""
    final: bool = False
    status: int | None = None
    answer: str = ""
    took: float = 0.0


def due(model: type[N]) -> QuerySet[N]:
    """Return notices whose time has come and that no worker has."""
    return model._default_manager.filter(leases.free(), state=DeliveryState.WAITING, next_at__lte=Now())


def is_due(model: type[N], *, owner_id: UUID | None = None) -> bool:
    """Tell whether something is due, of one person or of anybody."""
    rows = due(model) if owner_id is None else due(model).filter(owner=owner_id)
    return rows.exists()


def claim(model: type[N], *, token: UUID, number: int, turns: int) -> list[N]:
    """Lend up to `number` notices that are due to a turn, of many people rather than of one.

    Args:
        token: the turn's own.
        turns: how many turns may send at once; beyond them nothing is lent.
    """
    held = model._default_manager.filter(leases.held(), state=DeliveryState.WAITING)
    if held.exclude(lease_token=token).values("lease_token").distinct().count() >= turns:
        return []
    busy = dict(held.values_list("owner").annotate(number=Count("pk")))
    owners = list(due(model).values_list("owner", flat=True).distinct()[:MOST_OWNERS])
    # By chance, or those with slow receivers and much to send would come first again and again.
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
    """Lock and return a person's notices that are due, first those that have waited longest."""
    rows = due(model).filter(owner=owner_id)
    if model is Delivery:
        # What a job has to tell arrives in order, unless a first attempt fails.
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
    """Write what came of an attempt; return whether the notice was still this worker's."""
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
    """Let a delivery be sent now, with all its attempts before it, whatever came of it so far.

    Raises:
        Conflict: it is being sent at this moment.
    """
    rows = Delivery.objects.filter(pk=delivery.pk).filter(leases.free())
    changed = rows.update(
        state=DeliveryState.WAITING,
        next_at=Now(),
        updated_at=Now(),
        **leases.never_claimed(),
    )
    if not changed:
        raise Conflict(_("This delivery is being sent just now. Look again in a moment."), code="being_sent")


def sweep(*, older_than: timedelta) -> int:
    """Delete notices that are older, whatever became of them; return how many."""
    deleted = 0
    for rows in (Delivery.objects.all(), JobMail.objects.all()):
        old = rows.filter(created_at__lt=Now() - older_than).values_list("pk", flat=True)[:SWEEP]
        deleted += rows.filter(pk__in=list(old)).delete()[0]
    return deleted
