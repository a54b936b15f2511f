"""What a person may still do about a job: cancel it."""

from accounts.models import User
from ipau.common.errors import Conflict
from processing import claims
from processing.models import Job, JobKind, State
from processing.services.looking import get_job


def cancel_job(*, owner: User, job_id: object, kind: JobKind | None = None) -> Job:
    """End a job now; what has been finished stays. Cancelling twice is no fault.

    Raises:
        NotFound: there is no such job.
        Conflict: it has ended in another way already.
    """
    job = get_job(owner=owner, job_id=job_id, kind=kind)
    if claims.cancel(job.pk) is None and get_job(owner=owner, job_id=job_id).state != State.CANCELED:
        raise Conflict("This job has already ended, so there is nothing to cancel.", code="job_ended")
    return get_job(owner=owner, job_id=job_id)
