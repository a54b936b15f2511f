"""What a worker does: take a turn at somebody's jobs."""

import logging
import time
from uuid import UUID

from ipau.common.postgresql.retry import CONNECTION_ERRORS, persist
from market.listings import pauses
from processing.execution import (
    cached_results,
    expected_time,
    model_speed,
    record_results,
    runner,
    thread_pool,
)
from processing.execution.model_files import Blobs, models_of
from processing.fleet import queues, registry
from processing.job_queue import claims, gpu_fallback, transitions, wakeups
from processing.models import Job, Resource
from workers.cache import PROCESS_CACHE
from workers.plugin import Context
from workers.recipe import Recipe

logger = logging.getLogger(__name__)

# A turn whose pictures prove larger than expected ends after this, and gives back what it has not begun.
TURN_AT_MOST = 2 * wakeups.TURN_SECONDS
# With less of a turn left than this, no other chunk is begun: its claim and finish would not pay.
WORTH_SECONDS = 0.3


# Seconds a picture, by what is run, as this slot has measured it: so it knows how much a second's work is.
_pace: dict[str, float] = {}


def take_turn(owner_id: UUID, queue: str) -> int:
    """Do about a second of an owner's work in a queue; return how many wake-ups to send."""
    try:
        wakeups.touch(owner_id=owner_id, queue=queue)
        if wakeups.may_take_turn(owner_id=owner_id, queue=queue):
            _use_turn(owner_id, queue)
        return wakeups.end_turn(owner_id=owner_id, queue=queue)
    except CONNECTION_ERRORS:
        # A slot takes one turn at a time: nobody works on what it holds now, even if it was never told of it.
        persist(lambda: claims.reclaim(registry.leases_of(registry.this_slot())))
        raise


def _use_turn(owner_id: UUID, queue: str) -> None:
    """Work on the owner's oldest jobs, chunk by chunk, while another chunk fits into the turn.

    Chunks shrink towards the end of a job. With one a turn, few pictures would take several turns and wait
    between them for those of all other owners.
    """
    begun = time.monotonic()
    left = wakeups.TURN_SECONDS
    while job := claims.next_job(owner_id=owner_id, queue=queue, warm=PROCESS_CACHE.models()):
        if _end_if_late(job):
            continue
        recipe = Recipe.model_validate(job.recipe)
        if left < wakeups.TURN_SECONDS and left < max(WORTH_SECONDS, _pace.get(_kind(recipe, queue), 0)):
            return
        if not _work_on(job, recipe, queue, begun=begun, seconds=left):
            return
        left = wakeups.TURN_SECONDS - (time.monotonic() - begun)


def _end_if_late(job: Job) -> bool:
    """Tell whether the job's deadline has passed, which ends it: the sweep may not have seen it yet."""
    return job.deadline_at is not None and transitions.end_overdue(job_ids=[job.pk]) > 0


def _kind(recipe: Recipe, queue: str) -> str:
    """Return what pictures of about the same pace have in common."""
    steps = "+".join(step.operation + (step.weights or "") for step in recipe.steps)
    return steps if queue == "cpu" else f"{queue}:{steps}"


def _work_on(job: Job, recipe: Recipe, queue: str, *, begun: float, seconds: float) -> bool:
    """Run a chunk of a job that takes about so many seconds; return whether there was one."""
    if cached_results.take_known(job, registry.this_slot()):
        return True
    if pauses.are_paused(recipe.weights()):
        transitions.fail_waiting(job.pk, code=pauses.CODE, reason=str(pauses.SENTENCE))
        return True
    kind = _kind(recipe, queue)
    held = claims.claim(
        job=job,
        slot=registry.this_slot(),
        slots=max(1, registry.slots_of(queue)),
        seconds=seconds,
        seconds_per_item=_pace.get(kind),
    )
    if held is None:
        return False
    context = Context(
        device=queues.device_of(queue),
        pictures=_pictures_of(job),
        models=models_of(recipe),
        network_seconds=expected_time.network_seconds(recipe),
    )
    chunk = runner.run_chunk(held, recipe, context, ends=begun + TURN_AT_MOST)
    stored = time.monotonic()
    pace = model_speed.measure(recipe, context, chunk)
    persist(lambda: record_results.finish(held, chunk.done, pace))
    if chunk.overlong_seconds:
        wakeups.restrain(owner_id=job.owner_id, queue=queue, seconds=chunk.overlong_seconds)
    if chunk.is_broken:
        thread_pool.end_slot(f"it cannot go on with job {job.pk}")
    if chunk.seconds is not None:
        _note_pace(kind, chunk.seconds + (time.monotonic() - stored) / len(chunk.done))
    return True


def _note_pace(kind: str, seconds: float) -> None:
    """Remember seconds a picture as a moving average, so that the next chunk is about a second."""
    before = _pace.get(kind)
    _pace[kind] = seconds if before is None else 0.5 * before + 0.5 * seconds


def _pictures_of(job: Job) -> dict[str, Blobs]:
    digests: dict[str, list[str]] = {}
    rows = Resource.objects.filter(job=job).order_by("parameter", "position")
    for parameter, blob_id in rows.values_list("parameter", "blob"):
        digests.setdefault(parameter, []).append(blob_id)
    return {parameter: Blobs(found) for parameter, found in digests.items()}


def reclaim_lost() -> set[tuple[UUID, str]]:
    """Free items whose worker is gone or overdue; return the (owner, queue) in which they wait again.

    Jobs whose GPU is gone are moved before.
    """
    gpu_fallback.leave_missing_gpu()
    return claims.reclaim(registry.lost_leases())
