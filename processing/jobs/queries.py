"""Queries for jobs and their items."""

import uuid

from django.db.models import Prefetch, QuerySet

from accounts.models import User
from ipau.common.errors import NotFound
from processing.models import Item, Job, JobKind, Output
from processing.reporting import progress


def get_job(*, owner: User, job_id: object, kind: JobKind | None = None) -> Job:
    """Return a job of the owner, of any kind or only of `kind`.

    Raises:
        NotFound: there is none with this id.
    """
    rows = Job.objects.visible_to(owner).select_related("version__listing__owner", "output_folder")
    if kind is not None:
        rows = rows.filter(kind=kind)
    try:
        job: Job = rows.get(pk=uuid.UUID(str(job_id)))
    except (Job.DoesNotExist, ValueError) as error:
        raise NotFound("This job does not exist.") from error
    return job


def list_jobs(*, owner: User) -> QuerySet[Job]:
    """Return the owner's jobs, without predictions."""
    return Job.objects.visible_to(owner).filter(kind=JobKind.JOB).select_related("version__listing__owner")


def list_items(*, job: Job, state: str | None = None) -> QuerySet[Item]:
    """Return the items of a job with their results, in any state or only in `state`."""
    outputs = Output.objects.select_related("file").order_by("file__kind", "label")
    rows = Item.objects.filter(job=job)
    if state is not None:
        rows = rows.filter(state=state)
    return rows.select_related("job__version").prefetch_related(Prefetch("outputs", queryset=outputs))


def get_item(*, job: Job, position: int) -> Item:
    """Return the item at a position of a job, with its results as `delivered`.

    Raises:
        NotFound: the job has no such item.
    """
    rows = Item.objects.filter(job=job, position=position).select_related("input_file")
    item: Item | None = rows.prefetch_related(progress.delivered()).first()
    if item is None:
        raise NotFound(f"This job has no image at position {position}.")
    item.job = job
    return item
