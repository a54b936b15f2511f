"""Specification of a new job (images, parameters, terms), and creation of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from django.utils import timezone

from accounts.models import User
from drive.files import services as drive
from drive.files.names import distinct_names, fit
from drive.models import File, Folder
from market.models import Version
from market.pipelines.model_steps import price_each_of
from processing.execution.output_options import Options
from processing.jobs.manifests import ManifestRow
from processing.jobs.prepare import Prepared, memo_key
from processing.models import Item, Job, JobKind, Resource


@dataclass(frozen=True)
class JobInput:
    """One input image: a file of the drive, or uploaded bytes that are stored as a blob.

    Parameters of its `row`, if any, override those of the job.
    """

    name: str
    blob_id: str
    file: File | None = None
    row: ManifestRow | None = None
    # Path of the results below the output folder, such as "Summer/Beach".
    folder_path: str = ""

    @property
    def params(self) -> Mapping[str, Any]:
        return self.row.params if self.row else {}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Options, output folder, deadline, price limit (in millicredits) and notifications of a job."""

    options: Options = field(default_factory=Options)
    output_folder: Folder | None = None
    deadline_at: datetime | None = None
    max_price: int | None = None
    mail_when_done: bool = False
    webhook: str = ""
    webhook_events: tuple[str, ...] = ()
    again_of: Job | None = None
    # Number of images of that job that no longer exist.
    skipped: int = 0

    def key(self) -> list[object]:
        """Return the values that must be equal in requests with the same idempotency key."""
        return [
            self.options.model_dump(),
            self.output_folder and self.output_folder.pk,
            self.deadline_at,
            self.max_price,
            self.mail_when_done,
            self.webhook,
            self.webhook_events,
        ]


@dataclass(frozen=True)
class Order:
    """A new job whose parameters, images and terms have been checked.

    `own` has, for each image of `sources`, its own recipe, or None if it uses that of the job.
    """

    kind: JobKind
    owner: User
    version: Version
    params: Mapping[str, Any]
    prepared: Prepared
    sources: Sequence[JobInput]
    own: Sequence[Prepared | None]
    terms: Terms
    folder: Folder | None
    key: str | None
    request: str


def create_rows(order: Order) -> Job:
    """Create the job with its items, and an output folder if none is given. Call it in a transaction.

    Raises:
        IntegrityError: another request with this idempotency key created a job at the same time.
    """
    job = _create(order)
    _add_resources(job, order.prepared.resources)
    _add_items(job, order)
    return job


def _create(order: Order) -> Job:
    terms = order.terms
    return Job.objects.create(
        owner=order.owner,
        kind=order.kind,
        version=order.version,
        recipe=order.prepared.recipe.model_dump(mode="json"),
        input=dict(order.params),
        queue=order.prepared.queue,
        total=len(order.sources),
        output_folder=order.folder or _new_folder(order.owner, order.version),
        options=terms.options.model_dump(mode="json"),
        deadline_at=terms.deadline_at,
        price_each=price_each_of(order.version),
        max_price=terms.max_price,
        again_of=terms.again_of,
        mail_when_done=terms.mail_when_done,
        webhook=terms.webhook,
        webhook_events=list(terms.webhook_events),
        idempotency_key=order.key,
        request_digest=order.request,
    )


def _new_folder(owner: User, version: Version) -> Folder:
    name = f"{version.listing.title} {timezone.localtime():%Y-%m-%d %H-%M}"
    return drive.create_numbered_folder(owner=owner, parent=None, name=name)


def _add_resources(job: Job, resources: Mapping[str, list[str]]) -> None:
    Resource.objects.bulk_create(
        Resource(job=job, parameter=parameter, position=position, blob_id=digest)
        for parameter, digests in resources.items()
        for position, digest in enumerate(digests)
    )


def _add_items(job: Job, order: Order) -> None:
    stems = _stems(order.sources)
    options = order.terms.options
    items = []
    for position, (source, own, stem) in enumerate(zip(order.sources, order.own, stems, strict=True)):
        items.append(
            Item(
                job=job,
                position=position,
                name=source.name,
                folder_path=source.folder_path,
                output_stem=stem,
                input_file=source.file,
                blob_id=source.blob_id,
                input=dict(source.params) if own else None,
                recipe=own.recipe.model_dump(mode="json") if own else None,
                memo_key=memo_key(own or order.prepared, options, source.blob_id) if options.reuse else "",
            )
        )
    Item.objects.bulk_create(items, batch_size=2000)


def _stems(sources: Sequence[JobInput]) -> list[str]:
    """Return result names without extension, unique in each folder, in the order of `sources`."""
    by_folder: dict[str, list[int]] = {}
    for position, source in enumerate(sources):
        by_folder.setdefault(source.folder_path, []).append(position)
    stems = [""] * len(sources)
    for positions in by_folder.values():
        names = distinct_names([_stem(sources[position].name) for position in positions])
        for position, name in zip(positions, names, strict=True):
            stems[position] = name
    return stems


def _stem(name: str) -> str:
    """Return a file name without its extension, short enough for another extension."""
    suffix = PurePosixPath(name).suffix
    stem = name[: -len(suffix)] if suffix else name
    return fit(stem, " " * 20).strip() or "picture"
