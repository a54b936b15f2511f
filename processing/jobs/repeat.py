"""Run a job again over its remaining images, with its parameters or changed ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.services import Selection
from drive.models import File
from ipau.common.errors import Invalid
from market.listings import services as market
from processing.execution.output_options import Options
from processing.jobs.job_spec import Terms
from processing.jobs.manifests import ManifestRow
from processing.jobs.queries import get_job
from processing.jobs.submit import submit_job
from processing.models import Item, Job, JobKind


@dataclass(frozen=True)
class Earlier:
    """Remaining images of a job in its order, with per-image parameters in `rows`.

    `skipped` is the number of images that no longer exist.
    """

    job: Job
    selection: Selection
    rows: tuple[ManifestRow, ...]
    skipped: int


def earlier_pictures(*, owner: User, job_id: object) -> Earlier:
    """Return the images of a job that still exist. Three queries, whatever its size.

    Raises:
        NotFound: there is no such job.
    """
    job = get_job(owner=owner, job_id=job_id)
    items = Item.objects.filter(job=job, input_file__isnull=False).order_by("position")
    wanted = list(items.values_list("input_file", "input"))
    remaining = File.objects.visible_to(owner).runnable().filter(pk__in=items.values("input_file"))
    by_id = {file.pk: file for file in remaining}
    pairs = [(by_id[key], own) for key, own in wanted if key in by_id]
    rows = [ManifestRow(number, str(file.pk), own) for number, (file, own) in enumerate(pairs, 1) if own]
    files = tuple(dict.fromkeys(file for file, _own in pairs))
    return Earlier(job, Selection(folders=(), files=files), tuple(rows), job.total - len(pairs))


def repeat_job(
    *,
    owner: User,
    job_id: object,
    params: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Run a job's version again over its remaining images, into a new folder. The log says how many are gone.

    Options, price limit and notifications stay the same. The deadline is dropped.

    Args:
        params: parameters that differ from the earlier job. Per-image parameters are kept.

    Raises:
        NotFound: there is no such job, or its app is no longer offered.
        Invalid: a parameter is wrong, or none of the images exists any more.
        Conflict: the idempotency key belongs to another request.
    """
    job = get_job(owner=owner, job_id=job_id, kind=JobKind.JOB)
    earlier = earlier_pictures(owner=owner, job_id=job_id)
    if not earlier.selection.files:
        raise Invalid(_("None of the images of this job exists any more."), code="no_files")
    return submit_job(
        owner=owner,
        version=market.get_version(user=owner, version_id=job.version_id),
        params={**job.input, **(params or {})},
        selection=earlier.selection,
        table=earlier.rows,
        terms=Terms(
            options=Options.model_validate(job.options),
            max_price=job.max_price,
            mail_when_done=job.mail_when_done,
            webhook=job.webhook,
            webhook_events=tuple(job.webhook_events),
            again_of=job,
            skipped=earlier.skipped,
        ),
        idempotency_key=idempotency_key,
    )
