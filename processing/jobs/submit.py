"""Submit jobs and predictions: validate them, create their rows and wake workers after the commit."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files import services as drive
from drive.files.services import Selection
from drive.models import File
from drive.storage import blobs
from ipau.common.errors import Invalid, TooLarge
from ipau.common.idempotency import digest_of, find_earlier
from market.listings import services as market
from market.models import Version
from market.pipelines.model_steps import listings_run_by, price_each_of
from processing.execution import output_folders, tasks
from processing.job_queue import job_log, wakeups
from processing.jobs.job_spec import JobInput, Order, Terms, create_rows
from processing.jobs.manifests import ManifestProblems, ManifestRow, match
from processing.jobs.prepare import Prepared, prepare
from processing.models import Job, JobKind
from processing.notifications import services
from processing.reporting.estimates import Quote, credits_text, quote
from workers.media.decode import PictureError, identify

PREDICTIONS_FOLDER = "Predictions"


def submit_job(
    *,
    owner: User,
    version: Version,
    params: Mapping[str, Any],
    selection: Selection,
    table: Sequence[ManifestRow] = (),
    only_table: bool = False,
    terms: Terms | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Create a job that runs a version over the images of a selection, including all subfolders.

    Results go to the output folder of the terms, or to a new folder named after the app and the time.

    Args:
        table: parameters of single images. They override `params`.
        only_table: skip images that the table does not name.

    Raises:
        Invalid: a parameter is wrong, the selection has no images or too many, the table names an image
            outside the selection, the deadline has passed, or the price exceeds the limit of the terms.
        Conflict: the idempotency key belongs to another request.
    """
    terms = terms or Terms()
    chosen = [f.pk for f in selection.files] + [f.pk for f in selection.folders]
    rows = [(row.picture, dict(row.params)) for row in table]
    request = digest_of("job", version.pk, params, chosen, rows, only_table, terms.key())
    if earlier := find_earlier(Job.objects.filter(owner=owner), idempotency_key, request):
        return earlier
    prepared = prepare(owner=owner, version=version, params=params)
    sources = _sources(owner, version, selection, table, only_table, terms)
    return _submit(
        Order(
            kind=JobKind.JOB,
            owner=owner,
            version=version,
            params=params,
            prepared=prepared,
            sources=sources,
            own=_prepare_own(owner, version, params, sources),
            terms=terms,
            folder=terms.output_folder,
            key=idempotency_key,
            request=request,
        )
    )


def quote_job(
    *,
    owner: User,
    version: Version,
    params: Mapping[str, Any],
    selection: Selection,
    table: Sequence[ManifestRow] = (),
    only_table: bool = False,
    terms: Terms | None = None,
) -> Quote:
    """Return the highest price and expected time of `submit_job`. Checks and raises as it does."""
    prepared = prepare(owner=owner, version=version, params=params)
    sources = _sources(owner, version, selection, table, only_table, terms or Terms())
    _prepare_own(owner, version, params, sources)
    return quote(version=version, queue=prepared.queue, pictures=len(sources))


def submit_prediction(
    *,
    owner: User,
    version: Version,
    params: Mapping[str, Any],
    source: JobInput,
    terms: Terms | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Create a job that runs a version over one image. Raises as `submit_job`."""
    terms = terms or Terms()
    request = digest_of("prediction", version.pk, params, source.blob_id, terms.key())
    if earlier := find_earlier(Job.objects.filter(owner=owner), idempotency_key, request):
        return earlier
    _check_terms(version, 1, terms)
    return _submit(
        Order(
            kind=JobKind.PREDICTION,
            owner=owner,
            version=version,
            params=params,
            prepared=prepare(owner=owner, version=version, params=params),
            sources=[source],
            own=[None],
            terms=terms,
            folder=terms.output_folder or drive.folder_at_top(owner=owner, name=PREDICTIONS_FOLDER),
            key=idempotency_key,
            request=request,
        )
    )


def source_from_bytes(*, data: bytes, name: str) -> JobInput:
    """Store an image that was sent with a prediction. It does not become a file of the drive.

    Raises:
        Invalid: the bytes are not a supported image.
        TooLarge: the image is larger than `UPLOAD_MAX_BYTES`.
    """
    if len(data) > settings.UPLOAD_MAX_BYTES:
        raise TooLarge(f"An image can have at most {settings.UPLOAD_MAX_BYTES // 2**20} MB.")
    try:
        content_type = identify(data).content_type
    except PictureError as error:
        raise Invalid(error.message, code=error.code) from error
    stored = blobs.store(data, content_type)
    with transaction.atomic():
        blobs.register([stored])
    return JobInput(name, stored.sha256)


def source_from_file(*, owner: User, file_id: object) -> JobInput:
    """Return an image of the owner's drive as input.

    Raises:
        NotFound: there is no such file.
        Invalid: the file is not an image, or was refused.
    """
    file = drive.get_file(owner=owner, file_id=file_id)
    if file not in File.objects.filter(pk=file.pk).runnable():
        raise Invalid(file.reason or f"“{file.name}” is not an image.", code="not_a_picture")
    return JobInput(file.name, file.blob_id, file)


def _sources(
    owner: User,
    version: Version,
    selection: Selection,
    table: Sequence[ManifestRow],
    only_table: bool,
    terms: Terms,
) -> list[JobInput]:
    """Return the input images with their rows of the table. Raises as `submit_job`."""
    files = drive.pictures_in(owner=owner, chosen=selection, limit=settings.JOB_MAX_FILES)
    if not files:
        raise Invalid(_("No images selected: choose at least one."), code="no_files")
    own = match(owner=owner, rows=table, files=files) if table else {}
    if only_table:
        files = [file for file in files if file.pk in own]
    _check_terms(version, len(files), terms)
    paths = _folder_paths(owner, selection, files, terms)
    return [JobInput(f.name, f.blob_id, f, own.get(f.pk), paths.get(f.pk, "")) for f in files]


def _folder_paths(owner: User, chosen: Selection, files: Sequence[File], terms: Terms) -> dict[UUID, str]:
    """Return the folder paths of results below the output folder, by file id."""
    if not terms.options.keep_folders:
        return {}
    if terms.again_of is not None:
        paths = output_folders.earlier_folder_paths(terms.again_of)
    else:
        paths = output_folders.folder_paths(owner=owner, chosen=chosen, files=files)
    output_folders.check_folder_paths(set(paths.values()), below=terms.output_folder)
    return paths


def _check_terms(version: Version, number: int, terms: Terms) -> None:
    if terms.deadline_at is not None and terms.deadline_at <= timezone.now():
        text = _("This deadline has already passed.")
        raise Invalid(text, code="deadline", fields={"deadline_at": text})
    price = price_each_of(version) * number
    if terms.max_price is not None and price > terms.max_price:
        text = _("This could cost up to %(price)s credits, more than your limit of %(most)s.")
        raise Invalid(
            text % {"price": credits_text(price), "most": credits_text(terms.max_price)},
            code="over_max_price",
        )
    if terms.webhook:
        services.check_address(url=terms.webhook)


def _prepare_own(
    owner: User, version: Version, params: Mapping[str, Any], sources: Sequence[JobInput]
) -> list[Prepared | None]:
    """Return a recipe for each image with parameters of its own, else None. Checks equal ones once.

    Raises:
        Invalid: some are wrong. `fields` names them by row: «row 3.size».
    """
    known: dict[str, Prepared] = {}
    recipes: list[Prepared | None] = []
    problems = ManifestProblems()
    for source in sources:
        if source.row is None or not source.params:
            recipes.append(None)
            continue
        key = json.dumps(source.params, sort_keys=True, default=str)
        try:
            if key not in known:
                known[key] = prepare(
                    owner=owner, version=version, params={**params, **source.params}, own=source.params
                )
            recipes.append(known[key])
        except Invalid as error:
            for name, text in (error.fields or {"": error.message}).items():
                problems.add(source.row.number, text, field=name)
    problems.check()
    return recipes


def _submit(order: Order) -> Job:
    owner = order.owner
    try:
        with transaction.atomic():
            job = create_rows(order)
            number = len(order.sources)
            _note_submitted(job, order.terms)
            for listing_id in listings_run_by(order.version):
                market.note_runs(listing_id=listing_id, number=number)
            send = wakeups.request(owner_id=owner.pk, queue=job.queue, waiting=number)
            transaction.on_commit(lambda: tasks.send_turns(owner_id=owner.pk, queue=job.queue, number=send))
    except IntegrityError:
        # Two requests with one idempotency key at once: the slower one returns the job of the faster one.
        if earlier := find_earlier(Job.objects.filter(owner=owner), order.key, order.request):
            return earlier
        raise
    return job


def _note_submitted(job: Job, terms: Terms) -> None:
    skipped = {"skipped": terms.skipped} if terms.skipped else {}
    job_log.note(job.pk, job_log.Kind.SUBMITTED, n=job.total, **skipped)
