"""State changes of jobs: completion, cancellation, deadline and retry.

Locks are taken in the order of `processing.job_queue.claims`.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from ipau.common import leases
from processing.job_queue import job_log, wakeups
from processing.job_queue.job_log import Kind
from processing.models import OPEN, Ending, Item, Job, State
from processing.notifications import record

# Jobs of one sweep.
MAX_OVERDUE = 200
_LOGGED = {Ending.PERSON: Kind.CANCELED, Ending.DEADLINE: Kind.DEADLINE}


def lock_job(job_id: UUID) -> Job:
    """Return the job with its row locked until the transaction ends."""
    rows = Job.objects.select_for_update(no_key=True, of=("self",)).select_related("output_folder")
    job: Job = rows.get(pk=job_id)
    return job


def count(job: Job, *, succeeded: int = 0, failed: int = 0, reused: int = 0) -> None:
    """Add to the counters of a locked job, and complete it with the last item.

    Args:
        reused: how many of the succeeded items reused an earlier result.
    """
    if not succeeded and not failed:
        return
    job.succeeded += succeeded
    job.failed += failed
    job.reused += reused
    changes = ["succeeded", "failed", "reused", "updated_at"]
    if job.done == job.total and job.is_open:
        job.state = State.SUCCEEDED if job.succeeded else State.FAILED
        job.completed_at = timezone.now()
        changes += ["state", "completed_at"]
        job_log.note(job.pk, Kind.FINISHED, succeeded=job.succeeded, failed=job.failed)
    job.save(update_fields=changes)
    record.job_moved(job)


def cancel(job_id: UUID, *, ending: Ending = Ending.PERSON) -> int | None:
    """Cancel a job. Running items lose their lease, so their results are dropped.

    Returns: the number of canceled items, or None if the job had already ended.
    """
    with transaction.atomic():
        job = lock_job(job_id)
        return _end(job, ending) if job.is_open else None


def end_overdue(*, job_ids: Sequence[UUID] | None = None) -> int:
    """End open jobs after their deadline, by the database's clock; return the number of jobs.

    Args:
        job_ids: check only these jobs.
    """
    late = Job.objects.open().filter(deadline_at__lte=Now())
    chosen = late if job_ids is None else late.filter(pk__in=job_ids)
    ended = 0
    for job_id in chosen.order_by("deadline_at").values_list("pk", flat=True)[:MAX_OVERDUE]:
        with transaction.atomic():
            # Checked again under the lock: it may just have finished, or a retry removed its deadline.
            job = late.select_for_update(no_key=True).filter(pk=job_id).first()
            if job is not None:
                _end(job, Ending.DEADLINE)
                ended += 1
    return ended


def _end(job: Job, ending: Ending) -> int:
    now = timezone.now()
    rest = Item.objects.filter(job=job, state__in=OPEN)
    stopped = rest.update(**{**released(), "state": State.CANCELED, "completed_at": now})
    job.state = State.CANCELED
    job.ending = ending
    job.canceled += stopped
    job.completed_at = now
    job.save(update_fields=["state", "ending", "canceled", "completed_at", "updated_at"])
    job_log.note(job.pk, _LOGGED[ending], n=stopped)
    record.job_moved(job)
    return stopped


def fail_waiting(job_id: UUID, *, code: str, reason: str) -> int:
    """Fail all waiting items of a job with one reason; return the number of items."""
    with transaction.atomic():
        job = lock_job(job_id)
        waiting = Item.objects.filter(job=job, state=State.STARTING)
        failure = {"state": State.FAILED, "error_code": code, "error": reason, "completed_at": timezone.now()}
        failed = waiting.update(**{**released(), **failure})
        if failed:
            job_log.tally(job.pk, Kind.FAILED, failed, code=code, reason=reason)
            count(job, failed=failed)
        return failed


def retry(job_id: UUID) -> tuple[int, int]:
    """Reset the failed and canceled items of a job, so that they wait again.

    A job that has ended continues where it stopped. A deadline that has passed is removed.

    Returns: the number of items that wait again (0: nothing changed), and the number of wake-ups to send
        after the commit.
    """
    with transaction.atomic():
        job = lock_job(job_id)
        chosen = Item.objects.filter(Q(state=State.FAILED) | Q(state=State.CANCELED), job=job)
        number = chosen.update(**_reset())
        if not number:
            return 0, 0
        job.failed = job.canceled = 0
        changes = ["failed", "canceled", "updated_at"]
        if not job.is_open:
            job.state, job.ending, job.started_at, job.completed_at = State.STARTING, "", None, None
            changes += ["state", "ending", "started_at", "completed_at"]
        late = Job.objects.filter(pk=job.pk, deadline_at__lte=Now()).update(deadline_at=None)
        job.save(update_fields=changes)
        job_log.note(job.pk, Kind.RETRIED, n=number, **({"deadline": True} if late else {}))
        return number, wakeups.request(owner_id=job.owner_id, queue=job.queue, waiting=number)


def released() -> dict[str, Any]:
    """Return the field values of an item that nobody owns and that waits."""
    return {
        "state": State.STARTING,
        **leases.released(),
        "error_code": "",
        "error": "",
        "updated_at": timezone.now(),
    }


def _reset() -> dict[str, Any]:
    """Return the field values of an item that has never been tried."""
    return {
        **released(),
        **leases.never_claimed(),
        "worker": "",
        "slot": None,
        "device": "",
        "output": None,
        "timings": {},
        "started_at": None,
        "completed_at": None,
    }
