"""One turn of a slot: run chunks of an owner's jobs for about a second."""

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

# A turn ends after this time even if its images take longer than expected. It releases items not started.
MAX_TURN_SECONDS = 2 * wakeups.TURN_SECONDS
# Do not start another chunk with less time left: the overhead would exceed the work.
MIN_CHUNK_SECONDS = 0.3


# Measured seconds per image of this slot, by `_kind`. They decide the size of the next chunk.
_seconds_per_image: dict[str, float] = {}


def take_turn(owner_id: UUID, queue: str) -> int:
    """Work for about a second for an owner in a queue; return how many wake-ups to send."""
    try:
        wakeups.note_arrival(owner_id=owner_id, queue=queue)
        if wakeups.may_take_turn(owner_id=owner_id, queue=queue):
            _use_turn(owner_id, queue)
        return wakeups.end_turn(owner_id=owner_id, queue=queue)
    except CONNECTION_ERRORS:
        # A slot takes one turn at a time, so nothing works on its items now, even if the response of a claim
        # was lost.
        persist(lambda: claims.reclaim(registry.leases_of(registry.this_slot())))
        raise


def _use_turn(owner_id: UUID, queue: str) -> None:
    """Work on the owner's oldest jobs, chunk by chunk, while another chunk fits into the turn.

    Chunks shrink towards the end of a job. With one chunk per turn, few images would take several turns and
    wait for all other owners in between.
    """
    begun = time.monotonic()
    left = wakeups.TURN_SECONDS
    while job := claims.next_job(owner_id=owner_id, queue=queue, warm=PROCESS_CACHE.models()):
        if _end_if_late(job):
            continue
        recipe = Recipe.model_validate(job.recipe)
        if left < wakeups.TURN_SECONDS and left < max(
            MIN_CHUNK_SECONDS, _seconds_per_image.get(_kind(recipe, queue), 0)
        ):
            return
        if not _work_on(job, recipe, queue, begun=begun, seconds=left):
            return
        left = wakeups.TURN_SECONDS - (time.monotonic() - begun)


def _end_if_late(job: Job) -> bool:
    """End the job if its deadline has passed; return whether it has. The sweep may come later."""
    return job.deadline_at is not None and transitions.end_overdue(job_ids=[job.pk]) > 0


def _kind(recipe: Recipe, queue: str) -> str:
    """Return a key for recipes and queues with about the same time per image."""
    steps = "+".join(step.operation + (step.weights or "") for step in recipe.steps)
    return steps if queue == "cpu" else f"{queue}:{steps}"


def _work_on(job: Job, recipe: Recipe, queue: str, *, begun: float, seconds: float) -> bool:
    """Run a chunk of a job for about `seconds`; return whether there was one."""
    if cached_results.use_cached(job, registry.this_slot()):
        return True
    if pauses.are_paused(recipe.weights()):
        transitions.fail_waiting(job.pk, code=pauses.CODE, reason=str(pauses.SENTENCE))
        return True
    kind = _kind(recipe, queue)
    claim = claims.claim(
        job=job,
        slot=registry.this_slot(),
        slots=max(1, registry.slots_of(queue)),
        seconds=seconds,
        seconds_per_item=_seconds_per_image.get(kind),
    )
    if claim is None:
        return False
    context = Context(
        device=queues.device_of(queue),
        pictures=_image_sets_of(job),
        models=models_of(recipe),
        network_seconds=expected_time.network_seconds(recipe),
    )
    chunk = runner.run_chunk(claim, recipe, context, ends=begun + MAX_TURN_SECONDS)
    stored = time.monotonic()
    sample = model_speed.measure(recipe, context, chunk)
    persist(lambda: record_results.finish(claim, chunk.done, sample))
    if chunk.overlong_seconds:
        wakeups.throttle(owner_id=job.owner_id, queue=queue, seconds=chunk.overlong_seconds)
    if chunk.is_broken:
        thread_pool.end_slot(f"it cannot continue job {job.pk}")
    if chunk.seconds is not None:
        _note_speed(kind, chunk.seconds + (time.monotonic() - stored) / len(chunk.done))
    return True


def _note_speed(kind: str, seconds: float) -> None:
    """Update the moving average of seconds per image, so that the next chunk takes about a second."""
    average = _seconds_per_image.get(kind)
    _seconds_per_image[kind] = seconds if average is None else 0.5 * average + 0.5 * seconds


def _image_sets_of(job: Job) -> dict[str, Blobs]:
    digests: dict[str, list[str]] = {}
    rows = Resource.objects.filter(job=job).order_by("parameter", "position")
    for parameter, blob_id in rows.values_list("parameter", "blob"):
        digests.setdefault(parameter, []).append(blob_id)
    return {parameter: Blobs(blob_ids) for parameter, blob_ids in digests.items()}


def reclaim_lost() -> set[tuple[UUID, str]]:
    """Release items of lost workers and expired leases; return the (owner, queue) in which they wait again.

    Jobs that wait for a missing GPU move to the processors first.
    """
    gpu_fallback.move_jobs_to_cpu()
    return claims.reclaim(registry.lost_leases())
