"""A prediction: a job of one picture, as clients of hosted inference know it.

Here is what only they need: naming a picture by a text, naming a version by a text, waiting for the end.
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
_FIRST_LOOK = 0.01
_LAST_LOOK = 0.1

_FILE_PATH = re.compile(r"/v1/files/([0-9a-fA-F-]{36})(?:/content)?/?")


@dataclass(frozen=True)
class Picture:
    """What a text named: a file of the drive, or the bytes themselves."""

    file: File | None = None
    data: bytes = b""


def find_picture(*, owner: User, reference: str, hosts: Collection[str]) -> Picture:
    """Return the picture that a text names: a data URI, or the address, path or id of a file of the owner.

    No other address is ever fetched.

    Args:
        hosts: names (with ports) under which this site is reached.

    Raises:
        Invalid: the text names no picture that we take.
        NotFound: there is no such file.
    """
    if is_data_uri(reference):
        return Picture(data=_decode(reference))
    return Picture(file=drive.get_file(owner=owner, file_id=_file_id(reference, hosts)))


def _decode(uri: str) -> bytes:
    try:
        return read_data_uri(uri)
    except NotADataUri as error:
        raise _bad_picture(f"This data URI is damaged: {error}") from error


def _file_id(reference: str, hosts: Collection[str]) -> uuid.UUID:
    try:
        parts = urlsplit(reference)
        ours = parts.scheme in ("http", "https") and parts.netloc in hosts
        if (parts.scheme or parts.netloc) and not ours:
            raise _bad_picture(
                "Pictures are not fetched from other addresses. Upload it to /v1/files, or send a data URI."
            )
        path = _FILE_PATH.fullmatch(parts.path)
        return uuid.UUID(path.group(1) if path else reference)
    except ValueError as error:
        raise _bad_picture(
            "This names no picture: send the address or id of a file of yours, or a data URI."
        ) from error


def _bad_picture(message: str) -> Invalid:
    return Invalid(message, code="picture", fields={"image": message})


def find_version(*, user: User, reference: str) -> Version:
    """Return the version that a text names: its id, "owner/name" (the newest), or "owner/name:id".

    Raises:
        NotFound: there is none, or it is not for the user.
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
    """Fetch along what a prediction's description needs, in a constant number of queries."""
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
    """Wait until a job has ended, at most that long; return whether it has.

    Does not wait where that would be in vain (no worker serves its queue) or would leave the site without
    threads for others.
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
    pause = _FIRST_LOOK
    while not Job.objects.filter(pk=job.pk, state__in=ENDED).exists():
        left = ends - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LAST_LOOK)
    return True


def output_files(item: Item) -> dict[str, File]:
    """Return an item's results by label, those left out that the owner has put into the trash."""
    made: Any = item.outputs.all()
    return {output.label: output.file for output in made if output.file.trashed_at is None}
