"""How a job ends: with its last picture, by its owner, at its deadline; and how it begins again.

Locks are taken in the order that `processing.job_queue.claims` names.
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
MOST_OVERDUE = 200
_LOGGED = {Ending.PERSON: Kind.CANCELED, Ending.DEADLINE: Kind.DEADLINE}


def locked(job_id: UUID) -> Job:
    """Return the job, which nobody else changes until the transaction ends."""
    rows = Job.objects.select_for_update(no_key=True, of=("self",)).select_related("output_folder")
    job: Job = rows.get(pk=job_id)
    return job


def count(job: Job, *, succeeded: int = 0, failed: int = 0, reused: int = 0) -> None:
    """Add to the counters of a locked job, and close it with the last item.

    Args:
        reused: how many of those that succeeded took a result that was there already.
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
    """End a job now. Items that run lose their lease, so their results are dropped.

    Returns how many items were cancelled, or None where the job had ended already.
    """
    with transaction.atomic():
        job = locked(job_id)
        return _end(job, ending) if job.is_open else None


def end_overdue(*, job_ids: Sequence[UUID] | None = None) -> int:
    """End open jobs whose deadline has passed, by the database's clock; return how many.

    Args:
        job_ids: look at these only.
    """
    late = Job.objects.open().filter(deadline_at__lte=Now())
    chosen = late if job_ids is None else late.filter(pk__in=job_ids)
    ended = 0
    for job_id in chosen.order_by("deadline_at").values_list("pk", flat=True)[:MOST_OVERDUE]:
        with transaction.atomic():
            # Once more under the lock: it may just have finished, or been given more time.
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
    """Fail all items of a job that wait, for one reason; return how many they were."""
    with transaction.atomic():
        job = locked(job_id)
        waiting = Item.objects.filter(job=job, state=State.STARTING)
        failure = {"state": State.FAILED, "error_code": code, "error": reason, "completed_at": timezone.now()}
        failed = waiting.update(**{**released(), **failure})
        if failed:
            job_log.tally(job.pk, Kind.FAILED, failed, code=code, reason=reason)
            count(job, failed=failed)
        return failed


def retry(job_id: UUID) -> tuple[int, int]:
    """Put a job's failed items back to waiting, and those with which it was cancelled too.

    A job that had ended runs again, from where it stopped; a deadline that has passed is removed.

    Returns how many items wait again (0: there was nothing to try again, and nothing has changed), and how
    many wake-ups to send once that is committed.
    """
    with transaction.atomic():
        job = locked(job_id)
        chosen = Item.objects.filter(Q(state=State.FAILED) | Q(state=State.CANCELED), job=job)
        number = chosen.update(**_afresh())
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
        return number, wakeups.stir(owner_id=job.owner_id, queue=job.queue, waiting=number)


def released() -> dict[str, Any]:
    """Return the changes that take an item from its holder and let it wait."""
    return {
        "state": State.STARTING,
        **leases.released(),
        "error_code": "",
        "error": "",
        "updated_at": timezone.now(),
    }


def _afresh() -> dict[str, Any]:
    """Return the changes that make an item as if it had never been tried."""
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
