"""Wake-ups: at most one a slot is under way for an owner and queue, however many jobs they have.

A wake-up goes to the back of the queue after each turn, so owners take turns. The count here is advice: one
too many finds nothing to claim, one too few is put right by the sweep.
"""

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import DurationField, Exists, ExpressionWrapper, F, OuterRef
from django.db.models.functions import Greatest, Now

from ipau.common import leases
from processing.fleet import registry
from processing.models import Item, Job, Lane, State

# A lane that nothing has stirred for this long has lost its wake-ups.
SILENT = timedelta(seconds=6)
TURN_SECONDS = 1.0


# An image that took too long restrains its owner for so many times as long, up to a bound.
RESTRAINT_FACTOR = 10.0
MOST_RESTRAINT_SECONDS = 300.0


def stir(*, owner_id: UUID, queue: str, waiting: int) -> int:
    """Count in as many wake-ups as this lane lacks for `waiting` items; return how many to send."""
    lane = _locked(owner_id, queue)
    send = max(0, min(_slots_for(lane), waiting) - lane.outstanding)
    Lane.objects.filter(pk=lane.pk).update(outstanding=F("outstanding") + send, stirred_at=Now())
    return send


def end_turn(*, owner_id: UUID, queue: str) -> int:
    """Close a turn; return how many wake-ups to send (its own again, and any that the lane lacks)."""
    with transaction.atomic():
        lane = _locked(owner_id, queue)
        slots = _slots_for(lane)
        others = max(0, lane.outstanding - 1)
        send = max(0, min(slots, waiting_items(owner_id, queue, limit=slots)) - others)
        Lane.objects.filter(pk=lane.pk).update(outstanding=others + send, stirred_at=Now())
    return send


def touch(*, owner_id: UUID, queue: str) -> None:
    """Note that a wake-up has arrived."""
    Lane.objects.filter(owner=owner_id, queue=queue).update(stirred_at=Now())


def may_take_turn(*, owner_id: UUID, queue: str) -> bool:
    """Tell whether a slot may work for this owner now.

    A restrained owner leaves one slot to others, whether or not anybody waits for it yet. Where there is one
    slot only, the owner waits while others do.
    """
    lane = Lane.objects.filter(owner=owner_id, queue=queue, restrained_until__gt=Now()).first()
    if lane is None:
        return True
    slots = _slots(queue)
    if slots == 1:
        return not _others_wait(owner_id, queue)
    return _running_turns(owner_id, queue) < slots - 1


def restrain(*, owner_id: UUID, queue: str, seconds: float) -> None:
    """Count an image that took so long, and far too long, against the owner's next turns."""
    rest = timedelta(seconds=min(RESTRAINT_FACTOR * seconds, MOST_RESTRAINT_SECONDS))
    lane = Lane.objects.filter(owner=owner_id, queue=queue)
    lane.update(restrained_until=Greatest(F("restrained_until"), Now() + rest))


def is_to_give_way(*, owner_id: UUID, queue: str, token: UUID) -> bool:
    """Tell whether the slot that holds this lease should put its work back, for another owner to be served.

    So it is where another owner waits, none of them is served, this owner has all slots, and of these this
    one began last. The others go on, so this owner's work gets done as well.
    """
    if not _others_wait(owner_id, queue):
        return False
    held = Item.objects.filter(leases.held(), job__queue=queue, state=State.PROCESSING)
    turns = dict(held.order_by("started_at").values_list("lease_token", "job__owner"))
    slots = _slots(queue)
    is_alone = all(owner == owner_id for owner in turns.values())
    return 1 < slots <= len(turns) and is_alone and next(reversed(turns)) == token


def _others_wait(owner_id: UUID, queue: str) -> bool:
    open_jobs = Job.objects.open().filter(queue=queue).exclude(owner=owner_id)
    return open_jobs.filter(Exists(Item.objects.filter(job=OuterRef("pk"), state=State.STARTING))).exists()


def waiting_items(owner_id: UUID, queue: str, *, limit: int) -> int:
    """Count the owner's items that wait in a queue, up to `limit`."""
    rows = Item.objects.filter(
        job__owner=owner_id, job__queue=queue, job__state__in=("starting", "processing"), state=State.STARTING
    )
    return rows[:limit].count()


def wake_waiting(*, owner_id: UUID, queue: str) -> int:
    """Count in the wake-ups that a lane lacks for what waits in it; return how many to send."""
    with transaction.atomic():
        waiting = waiting_items(owner_id, queue, limit=_slots(queue))
        return stir(owner_id=owner_id, queue=queue, waiting=waiting)


def silent_lanes(*, depth: dict[str, int]) -> list[tuple[UUID, str]]:
    """Return (owner, queue) of lanes that have work and have not been stirred for too long.

    Args:
        depth: messages that wait in each queue. Behind many of them a wake-up may rightly take longer.
    """
    waiting = Item.objects.filter(job=OuterRef("pk"), state=State.STARTING)
    pairs = Job.objects.open().filter(Exists(waiting)).values_list("owner", "queue").distinct()
    age = ExpressionWrapper(Now() - F("stirred_at"), output_field=DurationField())
    ages = {(lane.owner_id, lane.queue): lane.age for lane in Lane.objects.annotate(age=age)}
    silent = []
    for owner_id, queue in pairs:
        wait = timedelta(seconds=2 * TURN_SECONDS * depth.get(queue, 0) / _slots(queue))
        quiet = ages.get((owner_id, queue))
        if quiet is None or quiet > SILENT + wait:
            silent.append((owner_id, queue))
    return silent


def restir(*, owner_id: UUID, queue: str) -> int:
    """Take a lane's wake-ups for lost, save those whose turns run, and count in the missing ones.

    Turns at large pictures are silent for long without anything being lost: sending more for them would give
    their owner more than a fair share of the queue. Returns how many to send.
    """
    with transaction.atomic():
        lane = _locked(owner_id, queue)
        running = _running_turns(owner_id, queue)
        slots = _slots_for(lane)
        send = max(0, min(slots, running + waiting_items(owner_id, queue, limit=slots)) - running)
        Lane.objects.filter(pk=lane.pk).update(outstanding=running + send, stirred_at=Now())
    return send


def _running_turns(owner_id: UUID, queue: str) -> int:
    held = Item.objects.filter(leases.held(), job__owner=owner_id, job__queue=queue, state=State.PROCESSING)
    return held.values("lease_token").distinct().count()


def _locked(owner_id: UUID, queue: str) -> Lane:
    Lane.objects.bulk_create([Lane(owner_id=owner_id, queue=queue, stirred_at=Now())], ignore_conflicts=True)
    return Lane.objects.select_for_update().get(owner=owner_id, queue=queue)


def _slots(queue: str) -> int:
    return max(1, registry.slots_of(queue))


def _slots_for(lane: Lane) -> int:
    """Return how many slots the lane's owner may have at a time."""
    slots = _slots(lane.queue)
    if lane.restrained_until is None or slots == 1:
        return slots
    is_restrained = Lane.objects.filter(pk=lane.pk, restrained_until__gt=Now()).exists()
    return slots - 1 if is_restrained else slots
