"""What a worker does: take a turn at somebody's jobs, answer a preview."""

import logging
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from drive.storage import blobs
from ipau.common.postgresql.retry import CONNECTION_ERRORS, persist
from market.listings import pauses
from processing import (
    chunks,
    claims,
    endings,
    expected_time,
    fleet,
    lanes,
    overlapping,
    preview_queue,
    previews,
    rerouting,
    results,
    reuse,
    speeds,
)
from processing.limits import TookTooLong, time_limit
from processing.models import Job, Resource
from processing.outcomes import OURS
from processing.stored import Blobs, models_of
from workers import engine
from workers.cache import PROCESS_CACHE
from workers.plugin import Context, OperationError
from workers.recipe import Recipe

logger = logging.getLogger(__name__)

# A turn whose pictures prove larger than expected ends after this, and gives back what it has not begun.
TURN_AT_MOST = 2 * lanes.TURN_SECONDS
# With less of a turn left than this, no other chunk is begun: its claim and finish would not pay.
WORTH_SECONDS = 0.3

# Seconds for which a slot waits for another preview, and for which it goes on with them. Then it hears from
# its worker again, whether to stop for example. The task's time limits leave room for the last one.
PREVIEW_PAUSE = 2.0
PREVIEWS_AT_MOST = 10.0
# For one preview, so that its answer comes before nobody waits for it any more.
PREVIEW_SECONDS = previews.PATIENCE_SECONDS - 3.0

# Seconds a picture, by what is run, as this slot has measured it: so it knows how much a second's work is.
_pace: dict[str, float] = {}


def take_turn(owner_id: UUID, queue: str) -> int:
    """Do about a second of an owner's work in a queue; return how many wake-ups to send."""
    try:
        lanes.touch(owner_id=owner_id, queue=queue)
        if lanes.may_take_turn(owner_id=owner_id, queue=queue):
            _use_turn(owner_id, queue)
        return lanes.end_turn(owner_id=owner_id, queue=queue)
    except CONNECTION_ERRORS:
        # A slot takes one turn at a time: nobody works on what it holds now, even if it was never told of it.
        persist(lambda: claims.reclaim(fleet.leases_of(fleet.this_slot())))
        raise


def _use_turn(owner_id: UUID, queue: str) -> None:
    """Work on the owner's oldest jobs, chunk by chunk, while another chunk fits into the turn.

    Chunks shrink towards the end of a job. With one a turn, few pictures would take several turns and wait
    between them for those of all other owners.
    """
    begun = time.monotonic()
    left = lanes.TURN_SECONDS
    while job := claims.next_job(owner_id=owner_id, queue=queue, warm=PROCESS_CACHE.models()):
        if _end_if_late(job):
            continue
        recipe = Recipe.model_validate(job.recipe)
        if left < lanes.TURN_SECONDS and left < max(WORTH_SECONDS, _pace.get(_kind(recipe, queue), 0)):
            return
        if not _work_on(job, recipe, queue, begun=begun, seconds=left):
            return
        left = lanes.TURN_SECONDS - (time.monotonic() - begun)


def _end_if_late(job: Job) -> bool:
    """Tell whether the job's deadline has passed, which ends it: the sweep may not have seen it yet."""
    return job.deadline_at is not None and endings.end_overdue(job_ids=[job.pk]) > 0


def _kind(recipe: Recipe, queue: str) -> str:
    """Return what pictures of about the same pace have in common."""
    steps = "+".join(step.operation + (step.weights or "") for step in recipe.steps)
    return steps if queue == "cpu" else f"{queue}:{steps}"


def _work_on(job: Job, recipe: Recipe, queue: str, *, begun: float, seconds: float) -> bool:
    """Run a chunk of a job that takes about so many seconds; return whether there was one."""
    if reuse.take_known(job, fleet.this_slot()):
        return True
    if pauses.are_paused(recipe.weights()):
        endings.fail_waiting(job.pk, code=pauses.CODE, reason=str(pauses.SENTENCE))
        return True
    kind = _kind(recipe, queue)
    held = claims.claim(
        job=job,
        slot=fleet.this_slot(),
        slots=max(1, fleet.slots_of(queue)),
        seconds=seconds,
        seconds_per_item=_pace.get(kind),
    )
    if held is None:
        return False
    context = Context(
        device=chunks.device_of(queue),
        pictures=_pictures_of(job),
        models=models_of(recipe),
        network_seconds=expected_time.network_seconds(recipe),
    )
    chunk = chunks.run_chunk(held, recipe, context, ends=begun + TURN_AT_MOST)
    stored = time.monotonic()
    pace = speeds.measure(recipe, context, chunk)
    persist(lambda: results.finish(held, chunk.done, pace))
    if chunk.overlong_seconds:
        lanes.restrain(owner_id=job.owner_id, queue=queue, seconds=chunk.overlong_seconds)
    if chunk.is_broken:
        overlapping.end_slot(f"it cannot go on with job {job.pk}")
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


def make_previews() -> bool:
    """Make the previews that are asked for, and wait a little for another, but leave after a while.

    A slot that has other work to do does not wait. Returns whether another slot has to be woken.
    """
    slot = fleet.this_slot()
    for request_id, key, *_ in preview_queue.recover(slot.worker):
        previews.answer(request_id, key, previews.Answer(error_code=claims.LOST[0], error=claims.LOST[1]))
    pause = PREVIEW_PAUSE if fleet.this_worker_serves_only(previews.QUEUE) else 0
    ends = time.monotonic() + PREVIEWS_AT_MOST
    left = False
    try:
        while time.monotonic() < ends:
            request = preview_queue.take(slot, seconds=pause)
            if request is None:
                break
            make_preview(*request)
    finally:
        # An exception too ends what this slot held, so that it no longer counts as running.
        left = preview_queue.end(slot)
    return left


def make_preview(
    request_id: str,
    key: str,
    source: Mapping[str, str],
    recipe: Mapping[str, Any],
    resources: Mapping[str, list[str]],
) -> None:
    """Run a recipe on one reduced picture and hand the answer to the request that waits.

    Args:
        source: {"blob": SHA-256} or {"ticket": …} of a picture that is not in the drive.
    """
    try:
        data = blobs.read(source["blob"]) if "blob" in source else previews.picture_of(source["ticket"])
    except OSError:
        logger.exception("The storage did not give %s for a preview", source)
        previews.answer(request_id, key, previews.Answer(error_code="storage", error=OURS))
        return
    if data is None:
        return  # Nobody waits any more.
    pictures = {parameter: Blobs(digests) for parameter, digests in resources.items()}
    previews.answer(request_id, key, _preview(Recipe.model_validate(recipe), data, pictures))
    if "ticket" in source:
        # Not before: where this slot ends meanwhile, another needs the picture.
        previews.drop_picture(source["ticket"])


def _preview(recipe: Recipe, data: bytes, pictures: Mapping[str, Blobs]) -> previews.Answer:
    try:
        with time_limit(PREVIEW_SECONDS):
            context = Context(
                pictures=pictures,
                models=models_of(recipe),
                network_seconds=min(PREVIEW_SECONDS, expected_time.network_seconds(recipe)),
            )
            made = engine.preview(recipe, data, context)
    except OperationError as error:
        pauses.note_fault(error)
        return previews.Answer(error_code=error.code, error=error.message)
    except (TookTooLong, MemoryError):
        return previews.Answer(
            error_code="too_slow", error="This preview takes too long. A job may still do it."
        )
    except Exception:
        logger.exception("A preview failed")
        return previews.Answer(error_code="internal", error=OURS)
    picture = next((f for f in made.files if f.width), None)
    texts = {f.label: f.data.decode() for f in made.files if not f.width}
    return previews.Answer(
        content_type=picture.content_type if picture else "",
        body=picture.data if picture else b"",
        width=(picture.width or 0) if picture else 0,
        height=(picture.height or 0) if picture else 0,
        texts=texts,
        data=made.data,
        timings=made.timings,
    )


def reclaim_lost() -> set[tuple[UUID, str]]:
    """Free items whose worker is gone or overdue; return the (owner, queue) in which they wait again.

    Jobs whose GPU is gone are moved before.
    """
    rerouting.leave_missing_gpu()
    return claims.reclaim(fleet.lost_leases())
