"""Fair queue of conversions, trials and samples: owners take turns, however much each has queued.

A wake-up only says that work waits. Each turn does one piece of work of one owner. The owner who has used the
least time recently comes first, then the one who has waited longest. Owners with work in progress wait. If an
owner's time for the day is used up, conversions fail with a report, and all other work waits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.db.models import Min
from django.db.models.functions import Now

from ipau.common import leases
from market.models import ConversionAccount
from market.sandbox.budgets import budget_of, recent_seconds
from market.weights import samples_work, trials, work


@dataclass(frozen=True)
class Waiting:
    """The next work of an owner. `do` returns whether there was work to do."""

    owner_id: UUID
    since: datetime
    do: Callable[[], bool]


def take_turn() -> bool:
    """Do the next work. Return whether there was any."""
    return any(waiting.do() for waiting in list_waiting())


def list_waiting(*, older_than: timedelta = timedelta()) -> Iterator[Waiting]:
    """Yield the next work of each owner without work in progress, in the order of turns.

    Args:
        older_than: only work that has waited at least this long.
    """
    since = _owners_waiting(older_than)
    busy = ConversionAccount.objects.filter(leases.held(), owner__in=since)
    for owner_id in busy.values_list("pk", flat=True):
        del since[owner_id]
    used = recent_seconds(since)
    for owner_id in sorted(since, key=lambda owner_id: (used.get(owner_id, 0.0), since[owner_id])):
        do = _next_of(owner_id)
        if do is not None:
            yield Waiting(owner_id, since[owner_id], do)


def _owners_waiting(older_than: timedelta) -> dict[UUID, datetime]:
    """Return, by owner, since when work waits."""
    found: dict[UUID, datetime] = {}
    for rows, owner in (
        (work.waiting(), "owner"),
        (trials.waiting(), "versions__listing__owner"),
        (samples_work.waiting(), "listing__owner"),
    ):
        old = rows.filter(updated_at__lte=Now() - older_than)
        for owner_id, since in old.order_by().values_list(owner).annotate(Min("updated_at")):
            if owner_id is not None:
                found[owner_id] = min(since, found.get(owner_id, since))
    return found


def _next_of(owner_id: UUID) -> Callable[[], bool] | None:
    """Return the next work of an owner: conversions first, then samples, then trials."""
    conversion = work.waiting().filter(owner=owner_id).order_by("id").values_list("pk", flat=True).first()
    if conversion is not None:
        return partial(work.convert, conversion)
    if budget_of(owner_id).is_spent:
        return None
    samples = samples_work.waiting().filter(listing__owner=owner_id).order_by("updated_at")
    listing = samples.values_list("listing", flat=True).first()
    if listing is not None:
        return partial(samples_work.update_samples, listing)
    untried = trials.waiting().filter(versions__listing__owner=owner_id).order_by("updated_at")
    weights = untried.values_list("pk", flat=True).first()
    return partial(trials.run_trial, weights) if weights is not None else None
