"""Run the items of a claim: one after the other on a processor, several at once on a GPU."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from drive.storage import blobs
from ipau.common.postgresql.retry import CONNECTION_ERRORS, persist
from market.listings import pauses
from processing.execution import expected_time, time_limits
from processing.execution.lease_renewal import LeaseRenewal
from processing.execution.outcomes import Done, Fault, NoRoomError, StoredFile, failure_of
from processing.execution.output_options import Options
from processing.execution.thread_pool import Chunk, ThreadPool
from processing.execution.time_limits import TookTooLong, Unwanted, time_limit
from processing.fleet import slot_memory
from processing.fleet.slot_memory import is_lack_of_memory
from processing.job_queue import claims
from processing.job_queue.claims import Claim
from processing.models import Item, Job, State
from workers import engine
from workers.plugin import PROCESSOR, Context, DeviceLost
from workers.recipe import Recipe

logger = logging.getLogger(__name__)

RETRY_AFTER = timedelta(seconds=3)


def run_chunk(claim: Claim, recipe: Recipe, context: Context, *, ends: float) -> Chunk:
    """Run the claimed items until all are done, `ends` has passed, or the lease is lost (canceled).

    Items that did not start are released.
    """
    chunk = Chunk()
    renewal = LeaseRenewal(claim, recipe)
    with renewal, suppress(Unwanted):
        if context.device == PROCESSOR:
            _run_sequentially(renewal, recipe, context, chunk, ends=ends)
        else:
            _run_in_threads(renewal, recipe, context, chunk, ends=ends)
    if renewal.was_preempted:
        chunk.left = _not_done(claim, chunk)
    if chunk.left:
        claims.release(claim, chunk.left)
    chunk.overlong_seconds = renewal.overlong_seconds
    return chunk


def _not_done(claim: Claim, chunk: Chunk) -> list[Item]:
    done = {outcome.item.pk for outcome in chunk.done}
    return [item for item in claim.items if item.pk not in done]


def _run_sequentially(
    renewal: LeaseRenewal, recipe: Recipe, context: Context, chunk: Chunk, *, ends: float
) -> None:
    by_key: dict[str, Done] = {}
    for index, item in enumerate(renewal.claim.items):
        if index and time.monotonic() > ends:
            chunk.left = list(renewal.claim.items[index:])
            break
        if not renewal.start_image(item):
            break
        original = by_key.get(item.memo_key)
        outcome = _copy_outcome(original, item) if original else _run_item(renewal, item, recipe, context)
        if outcome is None and slot_memory.has_grown():
            chunk.left, chunk.is_broken = list(renewal.claim.items[index + 1 :]), True
            break
        if outcome is not None:
            chunk.done.append(outcome)
            if item.memo_key and outcome.state == State.SUCCEEDED:
                by_key[item.memo_key] = outcome
    new = [done.timings for done in chunk.done if done.timings and not done.reused]
    spent = [sum(timings.values()) - timings.get("wait", 0) for timings in new]
    chunk.seconds = sum(spent) / len(spent) / 1000 if spent else None


def _run_in_threads(
    renewal: LeaseRenewal, recipe: Recipe, context: Context, chunk: Chunk, *, ends: float
) -> None:
    """Run the items in several threads, so that networks get their images in batches."""
    unique, duplicates = _split_duplicates(renewal.claim.items)
    try:
        engine.load_models(recipe, context)
    except DeviceLost:
        # Not released: if this model is the cause, it would kill one slot after the other.
        logger.exception("The GPU failed while loading a model of job %s", renewal.claim.job.pk)
        chunk.is_broken = True
        return
    except MemoryError as error:
        _fail_all(renewal.claim, chunk, NoRoomError(str(error)))
        return
    except Exception as error:  # noqa: BLE001  (classified there, and logged unless the image is the cause)
        _fail_all(renewal.claim, chunk, error)
        return
    pool = ThreadPool(unique, lambda item: _run_item(renewal, item, recipe, shared))
    shared = replace(context, checkpoint=time_limits.check, together=pool.running)
    begun = time.monotonic()
    pooled = pool.work(settings.GPU_THREADS, ends=ends, keep_going=renewal.start_image)
    if pooled.done:
        chunk.seconds = (time.monotonic() - begun) / len(pooled.done)
    chunk.stuck, chunk.is_broken, chunk.left = pooled.stuck, pooled.is_broken, pooled.left
    stuck = (_failed(renewal.claim, item, TookTooLong()) for item in pooled.stuck)
    chunk.done += [*pooled.done, *(done for done in stuck if done)]
    by_key = {done.item.memo_key: done for done in pooled.done if done.state == State.SUCCEEDED}
    for item in duplicates:
        if item.memo_key in by_key:
            chunk.done.append(_copy_outcome(by_key[item.memo_key], item))
        else:
            chunk.left.append(item)


def _fail_all(claim: Claim, chunk: Chunk, error: Exception) -> None:
    chunk.done = [done for item in claim.items if (done := _failed(claim, item, error))]


def _split_duplicates(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Split items into unique ones and duplicates, which have the image and settings of an earlier item."""
    unique: list[Item] = []
    duplicates: list[Item] = []
    known: set[str] = set()
    for item in items:
        (duplicates if item.memo_key in known else unique).append(item)
        known |= {item.memo_key} - {""}
    return unique, duplicates


def _copy_outcome(original: Done, item: Item) -> Done:
    """Return the outcome of a duplicate of another item of this chunk."""
    return replace(original, item=item, timings={"wait": original.timings["wait"]}, reused=True)


def _run_item(renewal: LeaseRenewal, item: Item, recipe: Recipe, context: Context) -> Done | None:
    """Run one item and return its outcome, or None if it is left for a retry."""
    started = time.perf_counter()
    own = Recipe.model_validate(item.recipe) if item.recipe else None
    output = Options.model_validate(renewal.claim.job.options).output()
    try:
        data = blobs.read(item.blob_id)
        fetched = time.perf_counter()
        with time_limit(settings.ITEM_SECONDS, is_wanted=renewal.is_wanted):
            result = engine.run(own or recipe, data, context, output=output)
        ran = time.perf_counter()
        files = persist(lambda: _store(result))
    except (*CONNECTION_ERRORS, DeviceLost):
        # The lease expires, and another slot retries.
        raise
    except (Exception, TookTooLong) as error:  # noqa: BLE001  (classified there, and logged unless the image is the cause)
        _count_kills(error, own or recipe, item)
        return _failed(renewal.claim, item, error)
    timings = {
        "wait": _waited_ms(renewal.claim.job, item),
        "fetch": (fetched - started) * 1000,
        **result.timings,
        "store": (time.perf_counter() - ran) * 1000,
    }
    timings = {stage: round(spent, 2) for stage, spent in timings.items()}
    return Done(item, State.SUCCEEDED, files=files, data=result.data, timings=timings)


def _count_kills(error: BaseException, recipe: Recipe, item: Item) -> None:
    """Count a fault against a model if it crashed its process or took far too long."""
    pauses.note_fault(error)
    # Many short runs for one image stay below the limit of a single run, so they are counted here.
    if isinstance(error, TookTooLong) and _is_overlong(recipe, item):
        for digest in recipe.weights():
            pauses.count_kill(digest=digest)


def _is_overlong(recipe: Recipe, item: Item) -> bool:
    return expected_time.overlong_after(recipe, item) < float(settings.ITEM_SECONDS)


def _failed(claim: Claim, item: Item, error: BaseException) -> Done | None:
    """Return the failed outcome of an item, or None if it is left for another attempt."""
    failure = failure_of(error)
    if failure.fault is not Fault.IMAGE:
        logger.error("Item %s of job %s failed: %s", item.pk, item.job_id, failure.code, exc_info=error)
    if item.attempts < claims.MAX_ATTEMPTS:
        if is_lack_of_memory(error) and slot_memory.has_grown():
            # Memory that earlier images left behind is not this image's fault: a fresh slot retries it.
            claims.let_expire(claim, [item], after=timedelta(0), code=failure.code)
            return None
        if failure.fault is Fault.TRANSIENT:
            claims.let_expire(claim, [item], after=RETRY_AFTER, code=failure.code)
            return None
    return Done(item, State.FAILED, error_code=failure.code, error=failure.message)


def _store(result: engine.RecipeResult) -> tuple[StoredFile, ...]:
    thumbnail = blobs.store(result.thumbnail, "image/webp") if result.thumbnail else None
    return tuple(
        StoredFile(
            label=file.label,
            suffix=file.suffix,
            stored=blobs.store(file.data, file.content_type),
            width=file.width,
            height=file.height,
            thumbnail=thumbnail if file.width else None,
        )
        for file in result.files
    )


def _waited_ms(job: Job, item: Item) -> float:
    # Two clocks are compared: that of the database and that of the machine that received the job.
    return max(0.0, ((item.started_at or timezone.now()) - job.created_at).total_seconds() * 1000)
