"""Claim items of a job for a slot, renew the lease, finish or release the items.

Lock order: job, items, folder tree, blobs, folder, usage, memos, wake-up row (`Lane`), speed.
Leases use the database's clock, because clocks of workers may differ.
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

# A running slot renews its lease, so the lease only has to outlast a short outage of the database.
LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 3
MAX_CHUNK = 256
# Minimum work of a chunk. Less would not be worth the cost of a claim and its finish.
MIN_SECONDS = 0.1
# A job with a result in this time counts as being worked on.
RECENTLY = timedelta(seconds=10)
# How many of an owner's oldest jobs are searched for one with loaded models.
LOOK_AHEAD = 50
# A job is passed over for at most this long. The first time is remembered for the second duration.
STARVATION_SECONDS = 10
REMEMBERED_SECONDS = 3600
LOST = ("worker_lost", "This image stopped the worker at every attempt, so it is not retried again.")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """Items of one job that this slot owns as long as their lease token is `token`."""

    job: Job
    items: tuple[Item, ...]
    token: uuid.UUID


def chunk_size(*, seconds: float, seconds_per_item: float | None, waiting: int, slots: int) -> int:
    """Return how many items to claim: `seconds` of work, shrinking towards the end of the job.

    A chunk has at most waiting/(2·slots) items, so that all slots finish at about the same time
    (guided self-scheduling; Polychronopoulos and Kuck, 1987).
    """
    if seconds_per_item is None:
        return 1
    pace = max(seconds_per_item, 1e-6)
    by_pace = int(seconds / pace)
    by_rest = max(-(-waiting // (2 * max(1, slots))), int(MIN_SECONDS / pace))
    return max(1, min(by_pace, by_rest, waiting, MAX_CHUNK))


# The digests of all models that a job runs.
_MODELS = Func(
    F("recipe"),
    template="jsonb_path_query_array(%(expressions)s, '$.steps[*].weights')",
    output_field=JSONField(),
)
_ITEMS = Item.objects.filter(job=OuterRef("pk"))
_IS_IDLE = ~Exists(_ITEMS.filter(state=State.PROCESSING)) & ~Exists(
    _ITEMS.filter(state=State.SUCCEEDED, completed_at__gt=Now() - RECENTLY)
)


def next_job(*, owner_id: uuid.UUID, queue: str, warm: Collection[str] = ()) -> Job | None:
    """Return the next job for a slot among the owner's jobs with waiting items in a queue.

    This is the oldest job. If the slot would have to load a model for it, the oldest job whose models are
    loaded is preferred. To prevent starvation, an older idle job is passed over only for
    `STARVATION_SECONDS` (`is_starving`).

    Args:
        warm: digests of the models that the slot has loaded.

    Returns: None if no item waits.
    """
    waiting = Item.objects.filter(job=OuterRef("pk"), state=State.STARTING)
    rows = Job.objects.filter(Exists(waiting), owner=owner_id, queue=queue, state__in=OPEN).order_by("id")
    jobs = rows.select_related("output_folder")
    oldest = jobs.first()
    if oldest is None or set(warm).issuperset(Recipe.model_validate(oldest.recipe).weights()):
        return oldest
    nearest = jobs.filter(pk__in=rows.values("pk")[:LOOK_AHEAD])
    preferred = nearest.annotate(models=_MODELS).filter(models__contained_by=sorted(warm)).first()
    if preferred is None:
        return oldest
    idle = nearest.annotate(is_idle=_IS_IDLE).filter(is_idle=True, pk__lt=preferred.pk).first()
    return idle if idle is not None and is_starving(idle.pk) else preferred


def claim(
    *, job: Job, slot: Slot, slots: int, seconds: float, seconds_per_item: float | None
) -> Claim | None:
    """Claim the next items of a job, for about `seconds` of work; return None if none is left."""
    token = uuid.uuid4()
    with transaction.atomic():
        mark_started(job, slot)
        countable = MAX_CHUNK * 2 * slots
        waiting = Item.objects.filter(job=job, state=State.STARTING)
        size = chunk_size(
            seconds=seconds,
            seconds_per_item=seconds_per_item,
            waiting=waiting[:countable].count(),
            slots=slots,
        )
        chosen = list(
            waiting.select_for_update(skip_locked=True)
            .order_by("position")
            .values_list("pk", "attempts")[:size]
        )
        ids = _isolate_retried(chosen)
        leases.claim(
            Item.objects.filter(pk__in=ids),
            token=token,
            lease=LEASE,
            state=State.PROCESSING,
            worker=slot.worker,
            slot=slot.pid,
            # Queues are named after the kind of device that serves them.
            device=job.queue,
            started_at=Now(),
            updated_at=Now(),
        )
    items = tuple(Item.objects.filter(pk__in=ids).order_by("position"))
    return Claim(job, items, token) if items else None


def mark_started(job: Job, slot: Slot) -> None:
    """Set the state of a waiting job to processing, with log line and notices."""
    first = Job.objects.filter(pk=job.pk, state=State.STARTING)
    if first.update(state=State.PROCESSING, started_at=Now(), updated_at=Now()):
        job_log.note(job.pk, Kind.STARTED, worker=slot.worker)
        record.job_started(job)


def _isolate_retried(chosen: Sequence[tuple[uuid.UUID, int]]) -> list[uuid.UUID]:
    """Return the ids to claim: a retried item gets a chunk of its own.

    It may have killed its worker, and that must not cost other items their attempts.
    """
    for index, (key, attempts) in enumerate(chosen):
        if attempts:
            return [key] if index == 0 else [k for k, _ in chosen[:index]]
    return [key for key, _ in chosen]


def renew(claim: Claim) -> bool:
    """Renew the lease; return whether any item is still owned. Items of a canceled job are not."""
    running = Item.objects.filter(job=claim.job, state=State.PROCESSING)
    return leases.renew(running, token=claim.token, lease=LEASE)


def release(claim: Claim, items: Sequence[Item]) -> None:
    """Release claimed items that did not start. They lose no attempt."""
    leases.release(_running(items), token=claim.token, refund_attempt=True, **transitions.released())


def let_expire(claim: Claim, items: Sequence[Item], *, after: timedelta, code: str) -> None:
    """Let the lease of items expire after a transient fault `code`. The sweep releases them after `after`."""
    leases.let_expire(_running(items), token=claim.token, after=after, error_code=code)


def _running(items: Sequence[Item]) -> QuerySet[Item]:
    return Item.objects.filter(pk__in=[item.pk for item in items], state=State.PROCESSING)


def reclaim(lost: Mapping[uuid.UUID, uuid.UUID]) -> set[tuple[uuid.UUID, str]]:
    """Release items of lost slots. Items without attempts left fail.

    Args:
        lost: lease tokens by item id. An item with another token has a new owner and is left alone.

    Returns: the (owner, queue) in which released items wait again.
    """
    waiting = set()
    by_job: dict[uuid.UUID, list[uuid.UUID]] = {}
    for job_id, item_id in Item.objects.filter(pk__in=lost).values_list("job", "pk"):
        by_job.setdefault(job_id, []).append(item_id)
    for job_id, ids in by_job.items():
        with transaction.atomic():
            job = transitions.lock_job(job_id)
            if _reclaim(job, ids, [lost[key] for key in ids]):
                waiting.add((job.owner_id, job.queue))
    return waiting


def _reclaim(job: Job, ids: Sequence[uuid.UUID], tokens: Sequence[uuid.UUID]) -> bool:
    leased = Item.objects.filter(pk__in=ids, lease_token__in=tokens, state=State.PROCESSING)
    spent = leased.filter(attempts__gte=MAX_ATTEMPTS)
    failure = {"state": State.FAILED, "error_code": LOST[0], "error": LOST[1], "completed_at": timezone.now()}
    failed = spent.update(**{**transitions.released(), **failure})
    if failed:
        job_log.tally(job.pk, Kind.FAILED, failed, code=LOST[0], reason=LOST[1])
    # Items with an error code had a transient fault. The others lost their worker.
    holders = Counter(leased.values_list("worker", "error_code"))
    leased.update(**transitions.released())
    for (worker, code), number in holders.items():
        if code:
            job_log.tally(job.pk, Kind.DELAYED, number, code=code)
        else:
            job_log.tally(job.pk, Kind.LOST, number, worker=worker)
    transitions.count(job, failed=failed)
    return bool(holders)


# One statement for a whole chunk. Only rows with the lease token change, and their ids are returned.
_FINISH = f"""
    UPDATE processing_item AS item
    SET state = done.state, output = done.output, error_code = done.error_code, error = done.error,
        timings = done.timings, reused = done.reused, {leases.RELEASED_SQL},
        completed_at = statement_timestamp(), updated_at = statement_timestamp()
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS done(
        id uuid, state text, output jsonb, error_code text, error text, timings jsonb, reused boolean)
    WHERE item.id = done.id AND item.lease_token = %(token)s AND item.state = 'processing'
    RETURNING item.id
"""  # noqa: S608  # nosec B608  # a constant of this project


def finish_items(claim: Claim, rows_json: str) -> set[uuid.UUID]:
    """Write the outcomes of items that are still owned; return their ids."""
    with connection.cursor() as cursor:
        cursor.execute(_FINISH, {"rows": rows_json, "token": claim.token})
        return {row[0] for row in cursor.fetchall()}


def is_starving(job_id: UUID) -> bool:
    """Note that a job would be passed over; return whether it has reached the starvation limit.

    The limit is reached `STARVATION_SECONDS` after the first call of any slot for this job.
    """
    passed_over_key, within_limit_key = f"passed-over:{job_id}", f"patient:{job_id}"
    try:
        if cache.get(passed_over_key) is None:
            cache.set(within_limit_key, True, STARVATION_SECONDS)
            cache.set(passed_over_key, True, REMEMBERED_SECONDS)
        return cache.get(within_limit_key) is None
    except RedisError:
        logger.warning("Cannot read how long job %s has been passed over", job_id, exc_info=True)
        return True
