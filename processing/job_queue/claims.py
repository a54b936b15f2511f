"""Claims: how a slot comes to own items, keeps them, and gives them back.

Locks are always taken in the order job, items, tree of folders, blobs, folder, usage, memos, lane, speed.
Leases run by the database's clock: those of workers may differ.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.core.cache import cache
from django.db import connection, transaction
from django.db.models import Exists, F, Func, JSONField, OuterRef, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from redis.exceptions import RedisError

from ipau.common import leases
from processing.fleet.registry import Slot
from processing.job_queue import job_log, transitions
from processing.job_queue.job_log import Kind
from processing.models import OPEN, Item, Job, State
from processing.notifications import record
from workers.recipe import Recipe

# Renewed all the while that a slot lives, so it need only outlast a database that is away.
LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3
MAX_CHUNK = 256
# Less work than this is not worth what a claim and its finish cost.
LEAST_SECONDS = 0.1
# A job that brought a result within this time is being worked on, if only now and then.
LATELY = timedelta(seconds=10)
# Among so many of an owner's jobs such a one is looked for.
LOOK_AHEAD = 50
# A job is passed over for this long at most. A job that was passed over is remembered for so long.
STARVATION_SECONDS = 10
REMEMBERED_SECONDS = 3600
LOST = ("worker_lost", "This picture stopped the worker each time it was tried, so we gave up on it.")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """Items of one job that this slot owns while they carry `token`."""

    job: Job
    items: tuple[Item, ...]
    token: uuid.UUID


def chunk_size(*, seconds: float, seconds_per_item: float | None, waiting: int, slots: int) -> int:
    """Return how many items to claim: `seconds` of work, shrinking towards the end of the job.

    With at most waiting/(2·slots) a chunk, no slot is left with a long one when the others run dry
    (guided self-scheduling; Polychronopoulos and Kuck, 1987).
    """
    if seconds_per_item is None:
        return 1
    pace = max(seconds_per_item, 1e-6)
    by_pace = int(seconds / pace)
    by_rest = max(-(-waiting // (2 * max(1, slots))), int(LEAST_SECONDS / pace))
    return max(1, min(by_pace, by_rest, waiting, MAX_CHUNK))


# The digests of all models that a job runs.
_MODELS = Func(
    F("recipe"),
    template="jsonb_path_query_array(%(expressions)s, '$.steps[*].weights')",
    output_field=JSONField(),
)
_ITS_ITEMS = Item.objects.filter(job=OuterRef("pk"))
_LEFT_ALONE = ~Exists(_ITS_ITEMS.filter(state=State.PROCESSING)) & ~Exists(
    _ITS_ITEMS.filter(state=State.SUCCEEDED, completed_at__gt=Now() - LATELY)
)


def next_job(*, owner_id: uuid.UUID, queue: str, warm: Collection[str] = ()) -> Job | None:
    """Return the job that a slot does next, of those of the owner that have items waiting in a queue.

    That is the oldest, unless the slot would have to load a model for it: then the oldest of those that it
    can do with what it has. None starves: the oldest that no slot works on is passed over for a few seconds
    (`is_starving`), then it goes first.

    Args:
        warm: digests of the models that the slot has loaded.
    """
    waiting = Item.objects.filter(job=OuterRef("pk"), state=State.STARTING)
    rows = Job.objects.filter(Exists(waiting), owner=owner_id, queue=queue, state__in=OPEN).order_by("id")
    found = rows.select_related("output_folder")
    oldest = found.first()
    if oldest is None or set(warm).issuperset(Recipe.model_validate(oldest.recipe).weights()):
        return oldest
    near = found.filter(pk__in=rows.values("pk")[:LOOK_AHEAD])
    preferred = near.annotate(models=_MODELS).filter(models__contained_by=sorted(warm)).first()
    if preferred is None:
        return oldest
    waits = near.annotate(left_alone=_LEFT_ALONE).filter(left_alone=True, pk__lt=preferred.pk).first()
    return waits if waits is not None and is_starving(waits.pk) else preferred


def claim(
    *, job: Job, slot: Slot, slots: int, seconds: float, seconds_per_item: float | None
) -> Claim | None:
    """Take the next items of a job for about so many seconds, or None when others were faster."""
    token = uuid.uuid4()
    with transaction.atomic():
        begin(job, slot)
        wanted = MAX_CHUNK * 2 * slots
        waiting = Item.objects.filter(job=job, state=State.STARTING)
        size = chunk_size(
            seconds=seconds,
            seconds_per_item=seconds_per_item,
            waiting=waiting[:wanted].count(),
            slots=slots,
        )
        chosen = list(
            waiting.select_for_update(skip_locked=True)
            .order_by("position")
            .values_list("pk", "attempts")[:size]
        )
        ids = _alone_if_retried(chosen)
        leases.claim(
            Item.objects.filter(pk__in=ids),
            token=token,
            lease=LEASE,
            state=State.PROCESSING,
            worker=slot.worker,
            slot=slot.pid,
            # Queues are called by the kind of device that serves them.
            device=job.queue,
            started_at=Now(),
            updated_at=Now(),
        )
    items = tuple(Item.objects.filter(pk__in=ids).order_by("position"))
    return Claim(job, items, token) if items else None


def begin(job: Job, slot: Slot) -> None:
    """Let a job that has waited so far be under way."""
    first = Job.objects.filter(pk=job.pk, state=State.STARTING)
    if first.update(state=State.PROCESSING, started_at=Now(), updated_at=Now()):
        job_log.note(job.pk, Kind.STARTED, worker=slot.worker)
        record.job_started(job)


def _alone_if_retried(chosen: Sequence[tuple[uuid.UUID, int]]) -> list[uuid.UUID]:
    """Leave an item that has been tried before to itself.

    Its worker may have died of it, and those that were claimed with it must not run out of attempts for that.
    """
    for index, (key, attempts) in enumerate(chosen):
        if attempts:
            return [key] if index == 0 else [k for k, _ in chosen[:index]]
    return [key for key, _ in chosen]


def renew(held: Claim) -> bool:
    """Prolong the lease; return whether anything is still owned (a cancelled job's items are not)."""
    running = Item.objects.filter(job=held.job, state=State.PROCESSING)
    return leases.renew(running, token=held.token, lease=LEASE)


def hand_back(held: Claim, items: Sequence[Item]) -> None:
    """Return items that were claimed and not begun; they lose no attempt."""
    leases.release(_running(items), token=held.token, refund_attempt=True, **transitions.released())


def let_expire(held: Claim, items: Sequence[Item], *, after: timedelta, code: str) -> None:
    """Leave items after the transient fault `code`: the sweep hands them back when `after` has passed."""
    leases.let_expire(_running(items), token=held.token, after=after, error_code=code)


def _running(items: Sequence[Item]) -> QuerySet[Item]:
    return Item.objects.filter(pk__in=[item.pk for item in items], state=State.PROCESSING)


def reclaim(lost: Mapping[uuid.UUID, uuid.UUID]) -> set[tuple[uuid.UUID, str]]:
    """Free items whose holder is lost; those out of attempts fail.

    Args:
        lost: lease tokens by the item's id. An item that has another one by now is left to its new holder.

    Returns: the (owner, queue) in which freed items wait again.
    """
    waiting = set()
    by_job: dict[uuid.UUID, list[uuid.UUID]] = {}
    for job_id, item_id in Item.objects.filter(pk__in=lost).values_list("job", "pk"):
        by_job.setdefault(job_id, []).append(item_id)
    for job_id, ids in by_job.items():
        with transaction.atomic():
            job = transitions.locked(job_id)
            if _reclaim(job, ids, [lost[key] for key in ids]):
                waiting.add((job.owner_id, job.queue))
    return waiting


def _reclaim(job: Job, ids: Sequence[uuid.UUID], tokens: Sequence[uuid.UUID]) -> bool:
    held = Item.objects.filter(pk__in=ids, lease_token__in=tokens, state=State.PROCESSING)
    spent = held.filter(attempts__gte=MAX_ATTEMPTS)
    failure = {"state": State.FAILED, "error_code": LOST[0], "error": LOST[1], "completed_at": timezone.now()}
    failed = spent.update(**{**transitions.released(), **failure})
    if failed:
        job_log.tally(job.pk, Kind.FAILED, failed, code=LOST[0], reason=LOST[1])
    # Those that hit a transient fault say so; the others' worker is gone.
    holders = Counter(held.values_list("worker", "error_code"))
    held.update(**transitions.released())
    for (worker, code), number in holders.items():
        if code:
            job_log.tally(job.pk, Kind.DELAYED, number, code=code)
        else:
            job_log.tally(job.pk, Kind.LOST, number, worker=worker)
    transitions.count(job, failed=failed)
    return bool(holders)


# One statement for a whole chunk: the token decides, and the rows that it moved come back.
_FINISH = f"""
    UPDATE processing_item AS item
    SET state = done.state, output = done.output, error_code = done.error_code, error = done.error,
        timings = done.timings, reused = done.reused, {leases.RELEASED_SQL},
        completed_at = statement_timestamp(), updated_at = statement_timestamp()
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS done(
        id uuid, state text, output jsonb, error_code text, error text, timings jsonb, reused boolean)
    WHERE item.id = done.id AND item.lease_token = %(token)s AND item.state = 'processing'
    RETURNING item.id
"""  # noqa: S608  (a constant of ours)


def finish_items(held: Claim, rows_json: str) -> set[uuid.UUID]:
    """Write the outcome of items that are still owned; return which ones they were."""
    with connection.cursor() as cursor:
        cursor.execute(_FINISH, {"rows": rows_json, "token": held.token})
        return {row[0] for row in cursor.fetchall()}


def is_starving(job_id: UUID) -> bool:
    """Note that a job would be passed over now; return whether it has been for too long already.

    That is once `STARVATION_SECONDS` have gone by since any slot first asked this.
    """
    passed, patient = f"passed-over:{job_id}", f"patient:{job_id}"
    try:
        if cache.get(passed) is None:
            cache.set(patient, True, STARVATION_SECONDS)
            cache.set(passed, True, REMEMBERED_SECONDS)
        return cache.get(patient) is None
    except RedisError:
        logger.warning("Cannot tell how long job %s has been passed over", job_id, exc_info=True)
        return True
