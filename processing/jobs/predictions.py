"""Predictions: jobs of one image, as clients of hosted inference use them.

This module resolves the image and version that a request names, and waits for the end of a job.
"""

import re
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.db.models import Prefetch, QuerySet

from accounts.models import User
from drive.files import services as drive
from drive.models import File
from ipau.common.errors import Invalid, NotFound, RateLimited, Unavailable
from ipau.common.http import concurrency
from market.listings import services as market
from market.models import Version
from processing.fleet import registry
from processing.jobs.data_uris import NotADataUri, is_data_uri, read_data_uri
from processing.models import ENDED, Item, Job, JobKind, Output

WAIT_AT_MOST = 60.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.1

_FILE_PATH = re.compile(r"/v1/files/([0-9a-fA-F-]{36})(?:/content)?/?")


@dataclass(frozen=True)
class PredictionInput:
    """Input image of a prediction: a file of the drive, or the bytes."""

    file: File | None = None
    data: bytes = b""


def find_picture(*, owner: User, reference: str, hosts: Collection[str]) -> PredictionInput:
    """Return the image for a reference: a data URI, or the URL, path or id of one of the owner's files.

    URLs of other sites are never fetched.

    Args:
        hosts: host names (with ports) of this site.

    Raises:
        Invalid: the reference is not one of these.
        NotFound: there is no such file.
    """
    if is_data_uri(reference):
        return PredictionInput(data=_decode(reference))
    return PredictionInput(file=drive.get_file(owner=owner, file_id=_file_id(reference, hosts)))


def _decode(uri: str) -> bytes:
    try:
        return read_data_uri(uri)
    except NotADataUri as error:
        raise _bad_image(f"This data URI is invalid: {error}") from error


def _file_id(reference: str, hosts: Collection[str]) -> uuid.UUID:
    try:
        parts = urlsplit(reference)
        ours = parts.scheme in ("http", "https") and parts.netloc in hosts
        if (parts.scheme or parts.netloc) and not ours:
            raise _bad_image(
                "Images are not fetched from other sites. Upload the image to /v1/files, or send a data URI."
            )
        path = _FILE_PATH.fullmatch(parts.path)
        return uuid.UUID(path.group(1) if path else reference)
    except ValueError as error:
        raise _bad_image(
            "This is not an image reference. Send the URL or id of one of your files, or a data URI."
        ) from error


def _bad_image(message: str) -> Invalid:
    return Invalid(message, code="picture", fields={"image": message})


def find_version(*, user: User, reference: str) -> Version:
    """Return the version for a reference: its id, "owner/name" (the newest), or "owner/name:id".

    Raises:
        NotFound: there is none, or the user may not see it.
    """
    address, _, version_id = reference.rpartition(":") if ":" in reference else (reference, "", "")
    if "/" not in address:
        return market.get_version(user=user, version_id=reference)
    owner, _, name = address.partition("/")
    if not version_id:
        return market.get_latest_version(user=user, owner=owner, name=name)
    listing = market.get_listing(user=user, owner=owner, name=name)
    return market.get_version(user=user, version_id=version_id, listing=listing)


def with_results(rows: QuerySet[Job]) -> QuerySet[Job]:
    """Prefetch the rows that serialized predictions need, in a constant number of queries."""
    outputs = Output.objects.select_related("file").order_by("file__kind", "label")
    items = Item.objects.select_related("input_file").prefetch_related(Prefetch("outputs", queryset=outputs))
    return rows.select_related("version__listing__owner").prefetch_related(Prefetch("items", queryset=items))


def list_predictions(*, owner: User) -> QuerySet[Job]:
    return with_results(Job.objects.visible_to(owner).filter(kind=JobKind.PREDICTION))


def get_prediction(*, owner: User, job_id: uuid.UUID) -> Job:
    """Return a prediction of the owner.

    Raises:
        NotFound: there is none with this id.
    """
    job: Job | None = list_predictions(owner=owner).filter(pk=job_id).first()
    if job is None:
        raise NotFound("This prediction does not exist.")
    return job


def wait_for(job: Job, *, seconds: float) -> bool:
    """Wait until a job has ended, for at most `seconds`; return whether it has.

    Does not wait if no worker serves its queue, or if too many threads of the site already wait.
    """
    if job.state in ENDED:
        return True
    if not registry.is_served(job.queue):
        return False
    try:
        with concurrency.waiting():
            return _poll(job, time.monotonic() + min(seconds, WAIT_AT_MOST))
    except (RateLimited, Unavailable):
        return False


def _poll(job: Job, ends: float) -> bool:
    pause = _FIRST_PAUSE
    while not Job.objects.filter(pk=job.pk, state__in=ENDED).exists():
        left = ends - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return True


def output_files(item: Item) -> dict[str, File]:
    """Return the result files of an item by label, without those in the trash."""
    outputs: Any = item.outputs.all()
    return {output.label: output.file for output in outputs if output.file.trashed_at is None}
