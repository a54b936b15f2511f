"""What waits for workers that convert, and whose turn it is: owners alternate, whatever each has waiting.

A wake-up only says that something waits. Owner after owner gets one thing done; first who has used least of
these workers lately, then who has waited longest. An owner of whom something is being done already waits,
and one whose minutes of the day are used up does too, save that conversions are then ended with a report.
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
from market.sandbox.budgets import budget_of, used_lately
from market.weights import samples_work, trials, work


@dataclass(frozen=True)
class Waiting:
    """The next thing to do for an owner. `do` returns whether there was anything to do."""

    owner_id: UUID
    since: datetime
    do: Callable[[], bool]


def take_turn() -> bool:
    """Do the next thing; return whether there was any."""
    return any(waiting.do() for waiting in list_waiting())


def list_waiting(*, older_than: timedelta = timedelta()) -> Iterator[Waiting]:
    """Yield the next thing of each owner whose turn it may be, in the order of turns.

    Args:
        older_than: of what has waited for so long alone.
    """
    since = _owners_waiting(older_than)
    held = ConversionAccount.objects.filter(leases.held(), owner__in=since)
    for owner_id in held.values_list("pk", flat=True):
        del since[owner_id]
    used = used_lately(since)
    for owner_id in sorted(since, key=lambda owner_id: (used.get(owner_id, 0.0), since[owner_id])):
        do = _next_of(owner_id)
        if do is not None:
            yield Waiting(owner_id, since[owner_id], do)


def _owners_waiting(older_than: timedelta) -> dict[UUID, datetime]:
    """Return since when something of each owner waits."""
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
    """Return what is to be done first for an owner: conversions before pictures that only show models."""
    conversion = work.waiting().filter(owner=owner_id).order_by("id").values_list("pk", flat=True).first()
    if conversion is not None:
        return partial(work.convert, conversion)
    if budget_of(owner_id).is_spent:
        return None
    shown = samples_work.waiting().filter(listing__owner=owner_id).order_by("updated_at")
    listing = shown.values_list("listing", flat=True).first()
    if listing is not None:
        return partial(samples_work.show_chosen, listing)
    tried = trials.waiting().filter(versions__listing__owner=owner_id).order_by("updated_at")
    weights = tried.values_list("pk", flat=True).first()
    return partial(trials.try_kept, weights) if weights is not None else None
