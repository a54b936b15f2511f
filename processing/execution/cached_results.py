"""Reuse cached results of items in bulk instead of computing them again."""

import json
from collections.abc import Sequence
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from ipau.common.postgresql.retry import persist
from processing.execution import record_results, result_cache
from processing.execution.outcomes import Done
from processing.execution.output_options import Options
from processing.execution.result_cache import CachedResult
from processing.fleet.registry import Slot
from processing.job_queue import claims, transitions
from processing.models import Item, Job, State

# Waiting items that a turn checks first. It goes on with larger windows while all of them are cached.
FIRST_WINDOW = 256
LARGE_WINDOW = 1000
# Items of one turn at most, so that other owners do not wait too long.
MAX_PER_TURN = 4000
_WRITE = """
    UPDATE processing_item AS item
    SET state = 'succeeded', reused = true, output = done.output, timings = done.timings,
        worker = %(worker)s, slot = %(slot)s, started_at = statement_timestamp(),
        completed_at = statement_timestamp(), updated_at = statement_timestamp()
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS done(id uuid, output jsonb, timings jsonb)
    WHERE item.id = done.id
"""


def use_cached(job: Job, slot: Slot) -> int:
    """Complete the next items of a job that have cached results; return the number of items.

    Costs one query if there are none.
    """
    if not Options.model_validate(job.options).reuse:
        return 0
    completed, window = 0, FIRST_WINDOW
    while completed < MAX_PER_TURN and result_cache.has_cached(job, among=window):
        number = _use_window(job, slot, window)
        completed += number
        if number < window:
            break
        window = LARGE_WINDOW
    return completed


def _use_window(job: Job, slot: Slot, window: int) -> int:
    """Complete the cached ones of the first `window` waiting items, in one transaction."""
    number, lost = persist(lambda: _use_window_once(job.pk, slot, window))
    if lost:
        result_cache.delete(job.owner_id, lost)
    return number


def _use_window_once(job_id: UUID, slot: Slot, window: int) -> tuple[int, set[str]]:
    """Return the number of completed items, and the keys of results with missing bytes."""
    with transaction.atomic():
        job = transitions.lock_job(job_id)
        if not job.is_open:
            return 0, set()
        waiting = Item.objects.filter(job=job, state=State.STARTING).order_by("position")
        keys = dict(waiting.values_list("pk", "memo_key")[:window])
        cached, lost = result_cache.load(job.owner_id, set(keys.values()))
        chosen = [pk for pk, key in keys.items() if key in cached]
        # Skips items that another slot is claiming at the same time.
        free = Item.objects.filter(pk__in=chosen, state=State.STARTING).select_for_update(skip_locked=True)
        done = [_done(job, item, cached[item.memo_key]) for item in free.order_by("position")]
        if done:
            claims.mark_started(job, slot)
            _write(done, slot)
            # `mark_started` may have changed the row.
            job.refresh_from_db(fields=["state", "started_at"])
            record_results.record(job, done, reused=True)
    return len(done), lost


def _done(job: Job, item: Item, cached: CachedResult) -> Done:
    wait_ms = max(0.0, (timezone.now() - job.created_at).total_seconds() * 1000)
    timings = {"wait": round(wait_ms, 2)}
    return Done(item, State.SUCCEEDED, cached.files, cached.data, timings=timings, reused=True)


def _write(done: Sequence[Done], slot: Slot) -> None:
    rows = [{"id": str(d.item.pk), "output": d.data, "timings": d.timings} for d in done]
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, {"rows": json.dumps(rows), "worker": slot.worker, "slot": slot.pid})
