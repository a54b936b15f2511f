"""Cancel and retry jobs."""

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
    """Cancel a job. Finished results are kept. Canceling twice is not an error.

    Raises:
        NotFound: there is no such job.
        Conflict: the job has already ended in another way.
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
    """Retry the failed and canceled items of a job. Succeeded items are kept.

    A deadline that has passed is removed.

    Raises:
        NotFound: there is no such job.
        Conflict: no item failed or was canceled. Nothing changes.
    """
    job = get_job(owner=owner, job_id=job_id, kind=kind)
    with transaction.atomic():
        number, send = transitions.retry(job.pk)
        transaction.on_commit(lambda: tasks.send_turns(owner_id=owner.pk, queue=job.queue, number=send))
    if not number:
        raise Conflict(_nothing_to_retry(get_job(owner=owner, job_id=job_id)), code="nothing_failed")
    return get_job(owner=owner, job_id=job_id)


def _nothing_to_retry(job: Job) -> str:
    if job.is_open:
        return _("This job is still running and none of its images has failed, so there is nothing to retry.")
    return _("No image of this job has failed, so there is nothing to retry.")
