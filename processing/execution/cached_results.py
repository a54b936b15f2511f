"""Taking results that are there already, in bulk, instead of computing them again."""

import json
from collections.abc import Sequence
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from ipau.common.postgresql.retry import persist
from processing.execution import record_results, result_cache
from processing.execution.outcomes import Done
from processing.execution.output_options import Options
from processing.execution.result_cache import Known
from processing.fleet.registry import Slot
from processing.job_queue import claims, transitions
from processing.models import Item, Job, State

# A turn looks at so many waiting items, and at more of them while all of these were known.
LOOK = 256
MOST = 1000
# So many at most in one turn, or others wait too long for theirs.
MOST_A_TURN = 4000
_WRITE = """
    UPDATE processing_item AS item
    SET state = 'succeeded', reused = true, output = done.output, timings = done.timings,
        worker = %(worker)s, slot = %(slot)s, started_at = statement_timestamp(),
        completed_at = statement_timestamp(), updated_at = statement_timestamp()
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS done(id uuid, output jsonb, timings jsonb)
    WHERE item.id = done.id
"""


def take_known(job: Job, slot: Slot) -> int:
    """End the job's next items whose results are there already; return how many.

    Where none is, that costs one query.
    """
    if not Options.model_validate(job.options).reuse:
        return 0
    taken, window = 0, LOOK
    while taken < MOST_A_TURN and result_cache.is_known(job, among=window):
        number = _take(job, slot, window)
        taken += number
        if number < window:
            break
        window = MOST
    return taken


def _take(job: Job, slot: Slot, window: int) -> int:
    """Take what is known of the first `window` waiting items, in one transaction."""
    number, lost = persist(lambda: _take_once(job.pk, slot, window))
    if lost:
        result_cache.drop(job.owner_id, lost)
    return number


def _take_once(job_id: UUID, slot: Slot, window: int) -> tuple[int, set[str]]:
    """Return how many were taken, and the keys of what turned out to be gone."""
    with transaction.atomic():
        job = transitions.locked(job_id)
        if not job.is_open:
            return 0, set()
        waiting = Item.objects.filter(job=job, state=State.STARTING).order_by("position")
        keys = dict(waiting.values_list("pk", "memo_key")[:window])
        known, lost = result_cache.recall(job.owner_id, set(keys.values()))
        chosen = [pk for pk, key in keys.items() if key in known]
        # Another slot may just be claiming some of them.
        free = Item.objects.filter(pk__in=chosen, state=State.STARTING).select_for_update(skip_locked=True)
        done = [_done(job, item, known[item.memo_key]) for item in free.order_by("position")]
        if done:
            claims.begin(job, slot)
            _write(done, slot)
            # The beginning of the job may just have been written.
            job.refresh_from_db(fields=["state", "started_at"])
            record_results.record(job, done, reused=True)
    return len(done), lost


def _done(job: Job, item: Item, known: Known) -> Done:
    waited = max(0.0, (timezone.now() - job.created_at).total_seconds() * 1000)
    timings = {"wait": round(waited, 2)}
    return Done(item, State.SUCCEEDED, known.files, known.data, timings=timings, reused=True)


def _write(done: Sequence[Done], slot: Slot) -> None:
    rows = [{"id": str(d.item.pk), "output": d.data, "timings": d.timings} for d in done]
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, {"rows": json.dumps(rows), "worker": slot.worker, "slot": slot.pid})
