"""Submitting: one transaction that freezes what is run on what, and wakes the workers when it commits."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive import blobs
from drive import services as drive
from drive.models import File, Folder
from drive.names import distinct_names, fit
from drive.services import Selection
from ipau.common.errors import Conflict, Invalid, TooLarge
from market import services as market
from market.models import Version
from processing import events, folders, lanes, tasks
from processing.estimates import Quote, credits_text, quote
from processing.inputs import Prepared, prepare
from processing.manifests import Problems, Row, match
from processing.memory import memo_key
from processing.models import Item, Job, JobKind, Resource
from processing.options import Options
from processing.services import webhooks
from workers.reading import PictureError, identify

PREDICTIONS_FOLDER = "Predictions"


@dataclass(frozen=True)
class Source:
    """One picture to run on: a file of the drive, or bytes that were sent along and are stored as a blob.

    The parameters of its `row`, if there is one, win over the job's.
    """

    name: str
    blob_id: str
    file: File | None = None
    row: Row | None = None
    # Folders below that of the results: "Summer/Beach", or nothing.
    way: str = ""

    @property
    def params(self) -> Mapping[str, Any]:
        return self.row.params if self.row else {}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is agreed beside what is run on what. Prices are in millicredits."""

    options: Options = field(default_factory=Options)
    output_folder: Folder | None = None
    deadline_at: datetime | None = None
    max_price: int | None = None
    mail_when_done: bool = False
    webhook: str = ""
    webhook_events: tuple[str, ...] = ()
    again_of: Job | None = None
    # How many of that job's pictures are no longer there.
    skipped: int = 0

    def key(self) -> list[object]:
        """What of this makes a request with the same idempotency key another request."""
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
class _Order:
    """Everything of a job to be, checked."""

    kind: JobKind
    owner: User
    version: Version
    params: Mapping[str, Any]
    prepared: Prepared
    sources: Sequence[Source]
    own: Sequence[Prepared | None]
    terms: Terms
    folder: Folder | None
    key: str | None
    request: str


def submit_job(
    *,
    owner: User,
    version: Version,
    params: Mapping[str, Any],
    selection: Selection,
    table: Sequence[Row] = (),
    only_table: bool = False,
    terms: Terms | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Run a version over the pictures of a selection, folders with all that is in them.

    Results go to the folder that the terms name, or to a new folder named after the app and the time.

    Args:
        table: parameters of single pictures; they win over `params`.
        only_table: leave out the pictures that the table does not name.

    Raises:
        Invalid: a parameter is wrong, there is no picture in the selection, there are too many, the table
            names one that is not among them, the deadline has passed, or it would cost more than the terms
            allow.
        Conflict: the idempotency key belongs to another request.
    """
    terms = terms or Terms()
    chosen = [f.pk for f in selection.files] + [f.pk for f in selection.folders]
    rows = [(row.picture, dict(row.params)) for row in table]
    request = _digest("job", version.pk, params, chosen, rows, only_table, terms.key())
    if earlier := _earlier(owner, idempotency_key, request):
        return earlier
    prepared = prepare(owner=owner, version=version, params=params)
    sources = _sources(owner, version, selection, table, only_table, terms)
    return _submit(
        _Order(
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
    table: Sequence[Row] = (),
    only_table: bool = False,
    terms: Terms | None = None,
) -> Quote:
    """Say what `submit_job` would cost at most and how long it may take. Checks and raises as it does."""
    prepared = prepare(owner=owner, version=version, params=params)
    sources = _sources(owner, version, selection, table, only_table, terms or Terms())
    _prepare_own(owner, version, params, sources)
    return quote(version=version, queue=prepared.queue, pictures=len(sources))


def submit_prediction(
    *,
    owner: User,
    version: Version,
    params: Mapping[str, Any],
    source: Source,
    terms: Terms | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Run a version over one picture: a job of one. Raises as `submit_job`."""
    terms = terms or Terms()
    request = _digest("prediction", version.pk, params, source.blob_id, terms.key())
    if earlier := _earlier(owner, idempotency_key, request):
        return earlier
    _check_terms(version, 1, terms)
    return _submit(
        _Order(
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


def source_from_bytes(*, data: bytes, name: str) -> Source:
    """Take a picture that was sent with a prediction. It becomes no file of the drive.

    Raises:
        Invalid: it is no picture that we read.
        TooLarge: more bytes than one request may carry.
    """
    if len(data) > settings.UPLOAD_MAX_BYTES:
        raise TooLarge(f"A picture may have {settings.UPLOAD_MAX_BYTES // 2**20} MB at most.")
    try:
        content_type = identify(data).content_type
    except PictureError as error:
        raise Invalid(error.message, code=error.code) from error
    stored = blobs.store(data, content_type)
    with transaction.atomic():
        blobs.register([stored])
    return Source(name, stored.sha256)


def source_from_file(*, owner: User, file_id: object) -> Source:
    """Return a picture of the owner's drive to run on.

    Raises:
        NotFound: there is no such file.
        Invalid: it is no picture, or one that was refused.
    """
    file = drive.get_file(owner=owner, file_id=file_id)
    if file not in File.objects.filter(pk=file.pk).runnable():
        raise Invalid(file.reason or f"“{file.name}” is not a picture.", code="not_a_picture")
    return Source(file.name, file.blob_id, file)


# --- Checks.


def _sources(
    owner: User,
    version: Version,
    selection: Selection,
    table: Sequence[Row],
    only_table: bool,
    terms: Terms,
) -> list[Source]:
    """Return the pictures to run on, each with its row of the table, once all that was asked is possible."""
    files = drive.pictures_in(owner=owner, chosen=selection, limit=settings.JOB_MAX_FILES)
    if not files:
        raise Invalid(_("There is no picture to run on: choose at least one."), code="no_files")
    own = match(owner=owner, rows=table, files=files) if table else {}
    if only_table:
        files = [file for file in files if file.pk in own]
    _check_terms(version, len(files), terms)
    ways = _ways(owner, selection, files, terms)
    return [Source(f.name, f.blob_id, f, own.get(f.pk), ways.get(f.pk, "")) for f in files]


def _ways(owner: User, chosen: Selection, files: Sequence[File], terms: Terms) -> dict[UUID, str]:
    """Return through which folders the results go, by the file's id."""
    if not terms.options.keep_folders:
        return {}
    if terms.again_of is not None:
        ways = folders.ways_again(terms.again_of)
    else:
        ways = folders.ways_of(owner=owner, chosen=chosen, files=files)
    folders.check_ways(set(ways.values()), below=terms.output_folder)
    return ways


def _check_terms(version: Version, number: int, terms: Terms) -> None:
    if terms.deadline_at is not None and terms.deadline_at <= timezone.now():
        text = _("This deadline has passed already.")
        raise Invalid(text, code="deadline", fields={"deadline_at": text})
    price = version.listing.price_each * number
    if terms.max_price is not None and price > terms.max_price:
        text = _("This would cost up to %(price)s credits, more than the %(most)s that you allow.")
        raise Invalid(
            text % {"price": credits_text(price), "most": credits_text(terms.max_price)},
            code="over_max_price",
        )
    if terms.webhook:
        webhooks.check_address(url=terms.webhook)


def _prepare_own(
    owner: User, version: Version, params: Mapping[str, Any], sources: Sequence[Source]
) -> list[Prepared | None]:
    """Check the pictures' own parameters; equal ones once.

    Raises:
        Invalid: some are wrong. `fields` names them by row: «row 3.size».
    """
    known: dict[str, Prepared] = {}
    found: list[Prepared | None] = []
    problems = Problems()
    for source in sources:
        if source.row is None or not source.params:
            found.append(None)
            continue
        key = json.dumps(source.params, sort_keys=True, default=str)
        try:
            if key not in known:
                known[key] = prepare(
                    owner=owner, version=version, params={**params, **source.params}, own=source.params
                )
            found.append(known[key])
        except Invalid as error:
            for name, text in (error.fields or {"": error.message}).items():
                problems.add(source.row.number, text, field=name)
    problems.check()
    return found


# --- Making rows.


def _submit(order: _Order) -> Job:
    owner = order.owner
    try:
        with transaction.atomic():
            job = _create(order)
            _add_resources(job, order.prepared.resources)
            _add_items(job, order)
            number = len(order.sources)
            _note_submitted(job, order.terms)
            market.note_runs(listing_id=order.version.listing_id, number=number)
            send = lanes.stir(owner_id=owner.pk, queue=job.queue, waiting=number)
            transaction.on_commit(lambda: tasks.send_turns(owner_id=owner.pk, queue=job.queue, number=send))
    except IntegrityError:
        # Two requests with one idempotency key at once: the slower one answers with the faster one's job.
        if earlier := _earlier(owner, order.key, order.request):
            return earlier
        raise
    return job


def _note_submitted(job: Job, terms: Terms) -> None:
    skipped = {"skipped": terms.skipped} if terms.skipped else {}
    events.note(job.pk, events.Kind.SUBMITTED, n=job.total, **skipped)


def _create(order: _Order) -> Job:
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
        price_each=order.version.listing.price_each,
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


def _add_items(job: Job, order: _Order) -> None:
    stems = _stems(order.sources)
    options = order.terms.options
    items = []
    for position, (source, own, stem) in enumerate(zip(order.sources, order.own, stems, strict=True)):
        items.append(
            Item(
                job=job,
                position=position,
                name=source.name,
                folder_path=source.way,
                output_stem=stem,
                input_file=source.file,
                blob_id=source.blob_id,
                input=dict(source.params) if own else None,
                recipe=own.recipe.model_dump(mode="json") if own else None,
                memo_key=memo_key(own or order.prepared, options, source.blob_id) if options.reuse else "",
            )
        )
    Item.objects.bulk_create(items, batch_size=2000)


def _stems(sources: Sequence[Source]) -> list[str]:
    """Return names for results, each distinct in its folder, in the order of the sources."""
    by_way: dict[str, list[int]] = {}
    for position, source in enumerate(sources):
        by_way.setdefault(source.way, []).append(position)
    stems = [""] * len(sources)
    for positions in by_way.values():
        names = distinct_names([_stem(sources[position].name) for position in positions])
        for position, name in zip(positions, names, strict=True):
            stems[position] = name
    return stems


def _stem(name: str) -> str:
    """Return a file name without its ending, short enough to take another one."""
    suffix = PurePosixPath(name).suffix
    stem = name[: -len(suffix)] if suffix else name
    return fit(stem, " " * 20).strip() or "picture"


# --- The same request again.


def _earlier(owner: User, key: str | None, request: str) -> Job | None:
    """Return the job that this idempotency key made before.

    Raises:
        Conflict: it was made by a different request.
    """
    if key is None:
        return None
    if not key or len(key) > 255:
        raise Invalid("An idempotency key has 1 to 255 characters.", code="idempotency_key")
    job: Job | None = Job.objects.filter(owner=owner, idempotency_key=key).first()
    if job is not None and job.request_digest != request:
        raise Conflict("This idempotency key was used for another request.", code="idempotency_key_reused")
    return job


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
