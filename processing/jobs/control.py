"""What a person may still do about a job: cancel it, try again what failed."""

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from ipau.common.errors import Conflict
from processing.execution import tasks
from processing.job_queue import transitions
from processing.jobs.queries import get_job
from processing.models import Job, JobKind, State
from processing.notifications import tasks as notifications_tasks


def cancel_job(*, owner: User, job_id: object, kind: JobKind | None = None) -> Job:
    """End a job now; what has been finished stays. Cancelling twice is no fault.

    Raises:
        NotFound: there is no such job.
        Conflict: it has ended in another way already.
    """
    job = get_job(owner=owner, job_id=job_id, kind=kind)
    if transitions.cancel(job.pk) is None and get_job(owner=owner, job_id=job_id).state != State.CANCELED:
        raise Conflict(
            _("This job has already ended, so there is nothing to cancel."),
            code="job_ended",
        )
    transaction.on_commit(lambda: notifications_tasks.send_notices(owner_id=owner.pk))
    return get_job(owner=owner, job_id=job_id)


def retry_job(*, owner: User, job_id: object, kind: JobKind | None = None) -> Job:
    """Try again what failed of a job, and what it was cancelled with; what succeeded stays.

    A deadline that has passed is removed.

    Raises:
        NotFound: there is no such job.
        Conflict: nothing of it has failed or was cancelled. Nothing changes.
    """
    job = get_job(owner=owner, job_id=job_id, kind=kind)
    with transaction.atomic():
        again, send = transitions.retry(job.pk)
        transaction.on_commit(lambda: tasks.send_turns(owner_id=owner.pk, queue=job.queue, number=send))
    if not again:
        raise Conflict(_nothing_to_retry(get_job(owner=owner, job_id=job_id)), code="nothing_failed")
    return get_job(owner=owner, job_id=job_id)


def _nothing_to_retry(job: Job) -> str:
    if job.is_open:
        return _(
            "This job is still running and none of its pictures has failed, so there is nothing to retry."
        )
    return _("No picture of this job has failed, so there is nothing to retry.")
