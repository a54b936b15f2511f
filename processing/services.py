"""What people do with apps: preview, submit, look, cancel."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Prefetch, QuerySet
from django.utils import timezone

from accounts.models import User
from drive import blobs
from drive import services as drive
from drive.models import File, FileState, Folder
from drive.names import distinct_names, fit
from drive.services import Selection
from ipau.common.errors import Conflict, Invalid, NotFound, TimedOut, TooLarge, Unavailable
from market import services as market
from market.models import Version
from processing import claims, fleet, lanes, previews, progress, tasks
from processing.inputs import Prepared, prepare
from processing.models import Item, Job, JobKind, Output, Resource, State
from processing.previews import Answer
from workers.reading import PictureError, identify

PREVIEW_MAX_BYTES = 32 * 2**20
PREDICTIONS_FOLDER = "Predictions"


@dataclass(frozen=True)
class Source:
    """One picture to run on: a file of the drive, or bytes that were sent along and are stored as a blob."""

    name: str
    blob_id: str
    file: File | None = None


# --- Preview ------------------------------------------------------------------------------------------


def preview_file(*, owner: User, version: Version, params: Mapping[str, Any], file: File) -> Answer:
    """Show what a version does to a file of the drive, reduced, at once. Raises as `preview_bytes`."""
    if file.state == FileState.REFUSED:
        raise Invalid(file.reason, code="refused")
    prepared = prepare(owner=owner, version=version, params=params)
    return _preview(prepared, sha256=file.blob_id, source={"blob": file.blob_id})


def preview_bytes(*, owner: User | None, version: Version, params: Mapping[str, Any], data: bytes) -> Answer:
    """Show what a version does to a picture that is not in the drive.

    Raises:
        Invalid: the picture or a parameter cannot be used.
        TooLarge: more bytes than a preview may carry.
        Unavailable: no preview worker runs.
        TimedOut: none answered in time.
    """
    if len(data) > PREVIEW_MAX_BYTES:
        raise TooLarge(f"A preview takes {PREVIEW_MAX_BYTES // 2**20} MB at most.")
    _identify(data)
    prepared = prepare(owner=owner, version=version, params=params)
    return _preview(prepared, sha256=hashlib.sha256(data).hexdigest(), data=data)


def _preview(
    prepared: Prepared, *, sha256: str, source: dict[str, str] | None = None, data: bytes = b""
) -> Answer:
    try:
        return _ask_worker(prepared, sha256, source, data)
    except previews.ChannelError as error:
        raise Unavailable("Previews do not answer just now. Try again in a moment.") from error


def _ask_worker(prepared: Prepared, sha256: str, source: dict[str, str] | None, data: bytes) -> Answer:
    key = previews.cache_key(sha256=sha256, recipe_digest=prepared.fingerprint, resources=prepared.resources)
    kept = previews.kept(key)
    if kept is not None:
        return kept
    if not fleet.is_served("preview"):
        raise Unavailable("No preview worker is running just now. Jobs can still be submitted.")
    request_id = uuid.uuid4().hex
    where = source or {"ticket": previews.leave_picture(data)}
    recipe = prepared.recipe.model_dump(mode="json")
    if not tasks.send_preview(request_id, key, where, recipe, prepared.resources):
        raise Unavailable("Previews do not answer just now. Try again in a moment.")
    answer = previews.wait_for(request_id)
    if answer is None:
        raise TimedOut("The preview took too long. The preview workers may be busy: try again in a moment.")
    if answer.error:
        raise Invalid(answer.error, code=answer.error_code)
    return answer


# --- Submit -------------------------------------------------------------------------------------------


def submit_job(
    *,
    owner: User,
    version: Version,
    params: Mapping[str, Any],
    selection: Selection,
    output_folder: Folder | None = None,
    idempotency_key: str | None = None,
) -> Job:
    """Run a version over the pictures of a selection, folders with all that is in them.

    Results go to `output_folder`, or to a new folder named after the app and the time.

    Raises:
        Invalid: a parameter is wrong, there is no picture in the selection, or there are too many.
        Conflict: the idempotency key belongs to another request.
    """
    chosen = [f.pk for f in selection.files] + [f.pk for f in selection.folders]
    request = _digest("job", version.pk, params, chosen, output_folder and output_folder.pk)
    if earlier := _earlier(owner, idempotency_key, request):
        return earlier
    prepared = prepare(owner=owner, version=version, params=params)
    files = drive.pictures_in(owner=owner, chosen=selection, limit=settings.JOB_MAX_FILES)
    sources = [Source(f.name, f.blob_id, f) for f in files]
    if not sources:
        raise Invalid("There is no picture to run on: choose at least one.", code="no_files")
    return _submit(
        kind=JobKind.JOB,
        owner=owner,
        version=version,
        params=params,
        prepared=prepared,
        sources=sources,
        folder=output_folder,
        key=idempotency_key,
        request=request,
    )


def submit_prediction(
    *,
    owner: User,
    version: Version,
    params: Mapping[str, Any],
    source: Source,
    idempotency_key: str | None = None,
) -> Job:
    """Run a version over one picture: a job of one. Raises as `submit_job`."""
    request = _digest("prediction", version.pk, params, source.blob_id)
    if earlier := _earlier(owner, idempotency_key, request):
        return earlier
    return _submit(
        kind=JobKind.PREDICTION,
        owner=owner,
        version=version,
        params=params,
        prepared=prepare(owner=owner, version=version, params=params),
        sources=[source],
        folder=drive.folder_at_top(owner=owner, name=PREDICTIONS_FOLDER),
        key=idempotency_key,
        request=request,
    )


def source_from_bytes(*, data: bytes, name: str) -> Source:
    """Take a picture that was sent with a prediction. It becomes no file of the drive.

    Raises:
        Invalid: it is no picture that we read.
        TooLarge: more bytes than one request may carry.
    """
    if len(data) > settings.UPLOAD_MAX_BYTES:
        raise TooLarge(f"A picture may have {settings.UPLOAD_MAX_BYTES // 2**20} MB at most.")
    content_type = _identify(data)
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


def _submit(
    *,
    kind: JobKind,
    owner: User,
    version: Version,
    params: Mapping[str, Any],
    prepared: Prepared,
    sources: Sequence[Source],
    folder: Folder | None,
    key: str | None,
    request: str,
) -> Job:
    try:
        with transaction.atomic():
            job = Job.objects.create(
                owner=owner,
                kind=kind,
                version=version,
                recipe=prepared.recipe.model_dump(mode="json"),
                input=dict(params),
                queue=prepared.queue,
                total=len(sources),
                output_folder=folder or _new_folder(owner, version),
                idempotency_key=key,
                request_digest=request,
            )
            _add_resources(job, prepared.resources)
            _add_items(job, sources)
            market.note_runs(listing_id=version.listing_id, number=len(sources))
            send = lanes.stir(owner_id=owner.pk, queue=job.queue, waiting=len(sources))
            transaction.on_commit(lambda: tasks.send_turns(owner_id=owner.pk, queue=job.queue, number=send))
    except IntegrityError:
        # Two requests with one idempotency key at once: the slower one answers with the faster one's job.
        if earlier := _earlier(owner, key, request):
            return earlier
        raise
    return job


def _new_folder(owner: User, version: Version) -> Folder:
    name = f"{version.listing.title} {timezone.localtime():%Y-%m-%d %H-%M}"
    return drive.create_numbered_folder(owner=owner, parent=None, name=name)


def _add_resources(job: Job, resources: Mapping[str, list[str]]) -> None:
    Resource.objects.bulk_create(
        Resource(job=job, parameter=parameter, position=position, blob_id=digest)
        for parameter, digests in resources.items()
        for position, digest in enumerate(digests)
    )


def _add_items(job: Job, sources: Sequence[Source]) -> None:
    stems = distinct_names([_stem(source.name) for source in sources])
    items = [
        Item(
            job=job,
            position=position,
            name=source.name,
            output_stem=stem,
            input_file=source.file,
            blob_id=source.blob_id,
        )
        for position, (source, stem) in enumerate(zip(sources, stems, strict=True))
    ]
    Item.objects.bulk_create(items, batch_size=2000)


def _stem(name: str) -> str:
    """Return a file name without its ending, short enough to take another one."""
    suffix = PurePosixPath(name).suffix
    stem = name[: -len(suffix)] if suffix else name
    return fit(stem, " " * 20).strip() or "picture"


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


def _identify(data: bytes) -> str:
    try:
        return identify(data).content_type
    except PictureError as error:
        raise Invalid(error.message, code=error.code) from error


# --- Look, cancel -------------------------------------------------------------------------------------


def get_job(*, owner: User, job_id: object, kind: JobKind | None = None) -> Job:
    """Return a job of the owner, of any kind or of the given one.

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
    """Return the owner's jobs over many pictures; predictions are not among them."""
    return Job.objects.visible_to(owner).filter(kind=JobKind.JOB).select_related("version__listing__owner")


def list_items(*, job: Job, state: str | None = None) -> QuerySet[Item]:
    """Return the pictures of a job with their results, of any state or of the given one."""
    outputs = Output.objects.select_related("file").order_by("file__kind", "label")
    rows = Item.objects.filter(job=job)
    if state is not None:
        rows = rows.filter(state=state)
    return rows.select_related("job__version").prefetch_related(Prefetch("outputs", queryset=outputs))


def get_item(*, job: Job, position: int) -> Item:
    """Return the picture at a position of a job, with its results as `delivered`.

    Raises:
        NotFound: the job has no such picture.
    """
    rows = Item.objects.filter(job=job, position=position).select_related("input_file")
    item: Item | None = rows.prefetch_related(progress.delivered()).first()
    if item is None:
        raise NotFound("This job has no such picture.")
    return item


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
