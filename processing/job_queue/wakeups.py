"""Wake-ups: Celery messages that tell a slot to work for an owner in a queue.

There is at most one pending wake-up per slot for each owner and queue, however many jobs the owner has. After
each turn a wake-up goes to the back of the queue, so owners take turns. Counts in the wake-up rows (`Lane`)
may be wrong: an extra wake-up finds nothing to claim, and the sweep sends missing ones.
"""

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import DurationField, Exists, ExpressionWrapper, F, OuterRef
from django.db.models.functions import Greatest, Now

from ipau.common import leases
from processing.fleet import registry
from processing.models import Item, Job, Lane, State

# Wake-ups of an owner and queue count as lost when none was sent or received for this long.
SILENCE = timedelta(seconds=6)
TURN_SECONDS = 1.0


# An overlong image throttles its owner for this many times its duration, up to a maximum.
THROTTLE_FACTOR = 10.0
MAX_THROTTLE_SECONDS = 300.0


def request(*, owner_id: UUID, queue: str, waiting: int) -> int:
    """Count the wake-ups that are missing for `waiting` items as sent; return how many to send."""
    row = _locked(owner_id, queue)
    send = max(0, min(_slots_for(row), waiting) - row.outstanding)
    Lane.objects.filter(pk=row.pk).update(outstanding=F("outstanding") + send, stirred_at=Now())
    return send


def end_turn(*, owner_id: UUID, queue: str) -> int:
    """End a turn; return how many wake-ups to send: its own again, and missing ones."""
    with transaction.atomic():
        row = _locked(owner_id, queue)
        slots = _slots_for(row)
        others = max(0, row.outstanding - 1)
        send = max(0, min(slots, waiting_items(owner_id, queue, limit=slots)) - others)
        Lane.objects.filter(pk=row.pk).update(outstanding=others + send, stirred_at=Now())
    return send


def note_arrival(*, owner_id: UUID, queue: str) -> None:
    """Note that a wake-up was received."""
    Lane.objects.filter(owner=owner_id, queue=queue).update(stirred_at=Now())


def may_take_turn(*, owner_id: UUID, queue: str) -> bool:
    """Return whether a slot may work for this owner now.

    A throttled owner leaves one slot free, even if no other owner waits. If there is only one slot, a
    throttled owner waits while others have work.
    """
    row = Lane.objects.filter(owner=owner_id, queue=queue, restrained_until__gt=Now()).first()
    if row is None:
        return True
    slots = _slots(queue)
    if slots == 1:
        return not _others_wait(owner_id, queue)
    return _running_turns(owner_id, queue) < slots - 1


def throttle(*, owner_id: UUID, queue: str, seconds: float) -> None:
    """Throttle the owner's next turns, because of overlong images that took `seconds`."""
    rest = timedelta(seconds=min(THROTTLE_FACTOR * seconds, MAX_THROTTLE_SECONDS))
    row = Lane.objects.filter(owner=owner_id, queue=queue)
    row.update(restrained_until=Greatest(F("restrained_until"), Now() + rest))


def should_preempt(*, owner_id: UUID, queue: str, token: UUID) -> bool:
    """Return whether the slot with this lease should release its work, to serve another owner.

    This is so if another owner waits, this owner holds all slots, and this slot started last. The other slots
    go on, so that this owner's work also gets done.
    """
    if not _others_wait(owner_id, queue):
        return False
    leased = Item.objects.filter(leases.held(), job__queue=queue, state=State.PROCESSING)
    turns = dict(leased.order_by("started_at").values_list("lease_token", "job__owner"))
    slots = _slots(queue)
    is_alone = all(owner == owner_id for owner in turns.values())
    return 1 < slots <= len(turns) and is_alone and next(reversed(turns)) == token


def _others_wait(owner_id: UUID, queue: str) -> bool:
    open_jobs = Job.objects.open().filter(queue=queue).exclude(owner=owner_id)
    return open_jobs.filter(Exists(Item.objects.filter(job=OuterRef("pk"), state=State.STARTING))).exists()


def waiting_items(owner_id: UUID, queue: str, *, limit: int) -> int:
    """Return the number of the owner's waiting items in a queue, up to `limit`."""
    rows = Item.objects.filter(
        job__owner=owner_id, job__queue=queue, job__state__in=("starting", "processing"), state=State.STARTING
    )
    return rows[:limit].count()


def wake_waiting(*, owner_id: UUID, queue: str) -> int:
    """Count the wake-ups that are missing for all waiting items as sent; return how many to send."""
    with transaction.atomic():
        waiting = waiting_items(owner_id, queue, limit=_slots(queue))
        return request(owner_id=owner_id, queue=queue, waiting=waiting)


def find_silent(*, depth: dict[str, int]) -> list[tuple[UUID, str]]:
    """Return the (owner, queue) that have waiting items and probably lost their wake-ups.

    Args:
        depth: waiting messages by queue. The more there are, the longer a wake-up may take.
    """
    waiting = Item.objects.filter(job=OuterRef("pk"), state=State.STARTING)
    pairs = Job.objects.open().filter(Exists(waiting)).values_list("owner", "queue").distinct()
    age = ExpressionWrapper(Now() - F("stirred_at"), output_field=DurationField())
    ages = {(row.owner_id, row.queue): row.age for row in Lane.objects.annotate(age=age)}
    silent = []
    for owner_id, queue in pairs:
        wait = timedelta(seconds=2 * TURN_SECONDS * depth.get(queue, 0) / _slots(queue))
        age_of_last = ages.get((owner_id, queue))
        if age_of_last is None or age_of_last > SILENCE + wait:
            silent.append((owner_id, queue))
    return silent


def replace_lost(*, owner_id: UUID, queue: str) -> int:
    """Treat all wake-ups as lost, except those of running turns; return how many to send.

    Turns with large images are silent for long, but nothing is lost. Extra wake-ups for them would give their
    owner more than a fair share of the queue.
    """
    with transaction.atomic():
        row = _locked(owner_id, queue)
        running = _running_turns(owner_id, queue)
        slots = _slots_for(row)
        send = max(0, min(slots, running + waiting_items(owner_id, queue, limit=slots)) - running)
        Lane.objects.filter(pk=row.pk).update(outstanding=running + send, stirred_at=Now())
    return send


def _running_turns(owner_id: UUID, queue: str) -> int:
    leased = Item.objects.filter(leases.held(), job__owner=owner_id, job__queue=queue, state=State.PROCESSING)
    return leased.values("lease_token").distinct().count()


def _locked(owner_id: UUID, queue: str) -> Lane:
    Lane.objects.bulk_create([Lane(owner_id=owner_id, queue=queue, stirred_at=Now())], ignore_conflicts=True)
    return Lane.objects.select_for_update().get(owner=owner_id, queue=queue)


def _slots(queue: str) -> int:
    return max(1, registry.slots_of(queue))


def _slots_for(row: Lane) -> int:
    """Return how many slots the row's owner may use at a time."""
    slots = _slots(row.queue)
    if row.restrained_until is None or slots == 1:
        return slots
    is_throttled = Lane.objects.filter(pk=row.pk, restrained_until__gt=Now()).exists()
    return slots - 1 if is_throttled else slots
