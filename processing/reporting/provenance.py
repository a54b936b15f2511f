"""Provenance of drive files: the job, source image and parameters that produced a file."""

from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.origin import Origin
from drive.models import File
from processing.models import Output
from processing.reporting.used_parameters import describe_used


def origin_of(*, owner: User, file: File) -> Origin | None:
    """Return the provenance of a file of `owner`, or None if no job produced it. One query."""
    outputs = Output.objects.filter(file=file, item__job__owner=owner).order_by("id")
    output = outputs.select_related("item__input_file", "item__job__version__listing__owner").first()
    if output is None:
        return None
    item, job = output.item, output.item.job
    listing = job.version.listing
    used = describe_used(job.version.params_schema, item.recipe or job.recipe)
    return Origin(
        maker=_(listing.title),
        maker_url=reverse("processing:app", args=[listing.owner.handle, listing.name]),
        job_url=reverse("processing:job", args=[job.pk]),
        made_at=output.created_at,
        parameters=[(one["title"], one["value"]) for one in used],
        source=item.input_file,
        source_name=item.name,
        found_url=reverse("processing:job-item", args=[job.pk, item.position]) if item.output else "",
    )
