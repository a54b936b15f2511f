"""Running what a slot has claimed, one picture after the other or, beside a GPU, several at once."""

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
from processing.execution.lease_renewal import Watch
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


def run_chunk(held: Claim, recipe: Recipe, context: Context, *, ends: float) -> Chunk:
    """Run the claimed items until they are done, the time is up, or the lease is gone (cancelled).

    What was not begun is handed back.
    """
    chunk = Chunk()
    watch = Watch(held, recipe)
    with watch, suppress(Unwanted):
        if context.device == PROCESSOR:
            _run_in_turn(watch, recipe, context, chunk, ends=ends)
        else:
            _run_at_once(watch, recipe, context, chunk, ends=ends)
    if watch.gave_way:
        chunk.left = _not_done(held, chunk)
    if chunk.left:
        claims.hand_back(held, chunk.left)
    chunk.overlong_seconds = watch.overlong_seconds
    return chunk


def _not_done(held: Claim, chunk: Chunk) -> list[Item]:
    done = {outcome.item.pk for outcome in chunk.done}
    return [item for item in held.items if item.pk not in done]


def _run_in_turn(watch: Watch, recipe: Recipe, context: Context, chunk: Chunk, *, ends: float) -> None:
    made: dict[str, Done] = {}
    for index, item in enumerate(watch.held.items):
        if index and time.monotonic() > ends:
            chunk.left = list(watch.held.items[index:])
            break
        if not watch.next_picture(item):
            break
        twin = made.get(item.memo_key)
        outcome = _like(twin, item) if twin else _run_item(watch, item, recipe, context)
        if outcome is None and slot_memory.has_grown():
            chunk.left, chunk.is_broken = list(watch.held.items[index + 1 :]), True
            break
        if outcome is not None:
            chunk.done.append(outcome)
            if item.memo_key and outcome.state == State.SUCCEEDED:
                made[item.memo_key] = outcome
    new = [done.timings for done in chunk.done if done.timings and not done.reused]
    spent = [sum(timings.values()) - timings.get("wait", 0) for timings in new]
    chunk.seconds = sum(spent) / len(spent) / 1000 if spent else None


def _run_at_once(watch: Watch, recipe: Recipe, context: Context, chunk: Chunk, *, ends: float) -> None:
    """Run the items by several threads, whose pictures go through networks together."""
    firsts, twins = _part(watch.held.items)
    try:
        engine.load_models(recipe, context)
    except DeviceLost:
        # Not handed back: were it this model's fault, it would end one slot after the other.
        logger.exception("The GPU failed when a model of job %s was loaded", watch.held.job.pk)
        chunk.is_broken = True
        return
    except MemoryError as error:
        _fail_all(watch.held, chunk, NoRoomError(str(error)))
        return
    except Exception as error:  # noqa: BLE001  (sorted there, and logged unless it is the picture's)
        _fail_all(watch.held, chunk, error)
        return
    pool = ThreadPool(firsts, lambda item: _run_item(watch, item, recipe, shared))
    shared = replace(context, checkpoint=time_limits.check, together=pool.running)
    begun = time.monotonic()
    came = pool.work(settings.GPU_THREADS, ends=ends, looks=watch.next_picture)
    if came.done:
        chunk.seconds = (time.monotonic() - begun) / len(came.done)
    chunk.stuck, chunk.is_broken, chunk.left = came.stuck, came.is_broken, came.left
    stuck = (_failed(watch.held, item, TookTooLong()) for item in came.stuck)
    chunk.done += [*came.done, *(done for done in stuck if done)]
    made = {done.item.memo_key: done for done in came.done if done.state == State.SUCCEEDED}
    for item in twins:
        if item.memo_key in made:
            chunk.done.append(_like(made[item.memo_key], item))
        else:
            chunk.left.append(item)


def _fail_all(held: Claim, chunk: Chunk, error: Exception) -> None:
    chunk.done = [done for item in held.items if (done := _failed(held, item, error))]


def _part(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Part items from those whose picture and settings are those of one before."""
    firsts: list[Item] = []
    twins: list[Item] = []
    known: set[str] = set()
    for item in items:
        (twins if item.memo_key in known else firsts).append(item)
        known |= {item.memo_key} - {""}
    return firsts, twins


def _like(twin: Done, item: Item) -> Done:
    """Return the outcome of an item whose picture is the same as another one's of this chunk."""
    return replace(twin, item=item, timings={"wait": twin.timings["wait"]}, reused=True)


def _run_item(watch: Watch, item: Item, recipe: Recipe, context: Context) -> Done | None:
    """Run one item; None leaves it to be tried again after a transient fault."""
    started = time.perf_counter()
    own = Recipe.model_validate(item.recipe) if item.recipe else None
    output = Options.model_validate(watch.held.job.options).output()
    try:
        data = blobs.read(item.blob_id)
        fetched = time.perf_counter()
        with time_limit(settings.ITEM_SECONDS, is_wanted=watch.is_wanted):
            made = engine.run(own or recipe, data, context, output=output)
        ran = time.perf_counter()
        files = persist(lambda: _store(made))
    except (*CONNECTION_ERRORS, DeviceLost):
        # The lease runs out, and another slot tries again.
        raise
    except (Exception, TookTooLong) as error:  # noqa: BLE001  (sorted there, and logged unless it is the picture's)
        _count_kills(error, own or recipe, item)
        return _failed(watch.held, item, error)
    timings = {
        "wait": _milliseconds_between(watch.held.job, item),
        "fetch": (fetched - started) * 1000,
        **made.timings,
        "store": (time.perf_counter() - ran) * 1000,
    }
    timings = {stage: round(spent, 2) for stage, spent in timings.items()}
    return Done(item, State.SUCCEEDED, files=files, data=made.data, timings=timings)


def _count_kills(error: BaseException, recipe: Recipe, item: Item) -> None:
    """Count it against a model where the image took far too long for it, or broke its process down."""
    pauses.note_fault(error)
    # What no limit of a single run stops, as many runs of a network for one image, is as bad.
    if isinstance(error, TookTooLong) and _is_overlong(recipe, item):
        for digest in recipe.weights():
            pauses.count_kill(digest=digest)


def _is_overlong(recipe: Recipe, item: Item) -> bool:
    return expected_time.overlong_after(recipe, item) < float(settings.ITEM_SECONDS)


def _failed(held: Claim, item: Item, error: BaseException) -> Done | None:
    """Say why an item has no result; None where it is left for another attempt."""
    failure = failure_of(error)
    if failure.fault is not Fault.PICTURE:
        logger.error("Item %s of job %s failed: %s", item.pk, item.job_id, failure.code, exc_info=error)
    if item.attempts < claims.MAX_ATTEMPTS:
        if is_lack_of_memory(error) and slot_memory.has_grown():
            # What earlier images left behind is no fault of this one: a fresh slot tries it again.
            claims.let_expire(held, [item], after=timedelta(0), code=failure.code)
            return None
        if failure.fault is Fault.TRANSIENT:
            claims.let_expire(held, [item], after=RETRY_AFTER, code=failure.code)
            return None
    return Done(item, State.FAILED, error_code=failure.code, error=failure.message)


def _store(made: engine.RecipeResult) -> tuple[StoredFile, ...]:
    thumbnail = blobs.store(made.thumbnail, "image/webp") if made.thumbnail else None
    return tuple(
        StoredFile(
            label=file.label,
            suffix=file.suffix,
            stored=blobs.store(file.data, file.content_type),
            width=file.width,
            height=file.height,
            thumbnail=thumbnail if file.width else None,
        )
        for file in made.files
    )


def _milliseconds_between(job: Job, item: Item) -> float:
    # By two clocks: the database's, and that of the machine to which the job was submitted.
    return max(0.0, ((item.started_at or timezone.now()) - job.created_at).total_seconds() * 1000)
