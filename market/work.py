"""What a worker does with uploaded weights: have them converted in the sandbox, and keep what comes of it."""

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.core.files.storage import default_storage
from django.db import connection, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from drive import blobs
from drive.blobs import Stored
from drive.models import Blob
from ipau.common.database import CONNECTION_ERRORS, persist
from ipau.common.errors import Conflict
from market import trying, workplace
from market.models import Conversion, ConversionState
from market.releasing import TYPES, Release, keep_weights, release_model, withdraw_version
from market.trying import Tried
from workers.weights import sandbox

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
# Renewed while the sandbox is at work, so that a worker that dies costs no more than this.
LEASE = timedelta(seconds=60)
RENEW_SECONDS = 10.0
# Below the task's own limit, with time left for trying and storing what came of it.
WALL_SECONDS = 600.0
_CRASHED = "These weights could not be converted: each attempt ended before it was done."
_STORAGE_LOST = "The bytes of this file are no longer there."


@dataclass(frozen=True)
class _Claim:
    """A conversion that this worker owns for as long as it carries the token."""

    conversion: Conversion
    token: UUID

    @property
    def rows(self) -> models.QuerySet[Conversion]:
        return Conversion.objects.filter(pk=self.conversion.pk, lease_token=self.token)


def convert(conversion_id: UUID) -> bool:
    """Do a conversion that nobody else is at; return whether there was anything to do."""
    held = persist(lambda: _claim(conversion_id))
    if held is None:
        return False
    with workplace.open_folder(held.conversion.pk, held.token) as folder, _renewing(held):
        try:
            upload = _copy_out(held, folder)
        except FileNotFoundError:
            persist(lambda: _fail(held, {"code": "gone", "sentence": _STORAGE_LOST}))
            return True
        report, made = _convert(held.conversion, upload, folder / "out")
        if not report["ok"]:
            persist(lambda: _fail(held, report))
            return True
        tried = trying.try_weights(made, scratch_in=folder)
        report = _storable({**report, "trial": tried.as_json()})
        files = {name: _store(made / name) for name in TYPES}
        persist(lambda: _succeed(held, report, files, tried))
    return True


# --- Whose it is.


def _waiting() -> models.QuerySet[Conversion]:
    overdue = Q(state=ConversionState.PROCESSING, lease_expires_at__lt=Now())
    return Conversion.objects.filter(Q(state=ConversionState.STARTING) | overdue)


def _claim(conversion_id: UUID) -> _Claim | None:
    token = uuid4()
    taken = (
        _waiting()
        .filter(pk=conversion_id, attempts__lt=MAX_ATTEMPTS)
        .update(
            state=ConversionState.PROCESSING,
            lease_token=token,
            lease_expires_at=Now() + LEASE,
            attempts=F("attempts") + 1,
            started_at=Coalesce(F("started_at"), Now()),
            updated_at=Now(),
        )
    )
    return _Claim(Conversion.objects.get(pk=conversion_id), token) if taken else None


@contextmanager
def _renewing(held: _Claim) -> Iterator[None]:
    """Keep the lease while the block runs, from a thread with a connection of its own."""
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(held, ended), name="renew", daemon=True)
    # Within a transaction nobody sees the claim yet, so nobody can take it away either.
    if not connection.in_atomic_block:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


def _renew(held: _Claim, ended: threading.Event) -> None:
    try:
        while not ended.wait(RENEW_SECONDS):
            try:
                held.rows.update(lease_expires_at=Now() + LEASE)
            except CONNECTION_ERRORS:
                # The lease outlasts several such failures.
                logger.warning("The lease of %s was not renewed", held.conversion.pk, exc_info=True)
                connection.close()
    finally:
        connection.close()


# --- Converting.


def _copy_out(held: _Claim, folder: Path) -> Path:
    """Write the upload's bytes to a file of its own. Raises OSError."""
    target = folder / "upload"
    with (
        default_storage.open(Blob(sha256=held.conversion.source_sha256).path) as source,
        target.open("wb") as out,
    ):
        shutil.copyfileobj(source, out, blobs.CHUNK)
    return target


def _convert(conversion: Conversion, upload: Path, out: Path) -> tuple[dict[str, Any], Path]:
    """Return the sandbox's report, as the database can keep it, and the folder of what was made."""
    config: Path | None = None
    if conversion.config:
        config = upload.with_name("config.json")
        config.write_text(conversion.config)
    limits = sandbox.Limits(wall=WALL_SECONDS)
    report = sandbox.convert(
        upload,
        out,
        family=conversion.family or None,
        config=config,
        limits=limits,
        scratch_in=upload.parent,
    )
    return _storable(report.as_json()), out


def _storable(value: Any) -> Any:
    """Return a copy without what PostgreSQL's JSON cannot hold: NUL and halves of characters."""
    if isinstance(value, str):
        return value.replace("\0", "�").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_storable(name): _storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner) for inner in value]
    return value


def _store(path: Path) -> Stored:
    with path.open("rb") as content:
        return blobs.store_file(content, TYPES[path.name])


# --- How it ends.


@transaction.atomic
def _succeed(held: _Claim, report: dict[str, Any], files: dict[str, Stored], tried: Tried) -> None:
    """Keep the model and release it. One to whom the lease has passed drops what it made: it is swept."""
    conversion = held.rows.select_for_update().first()
    if conversion is None:
        return
    try:
        with transaction.atomic():
            weights = keep_weights(facts=report["facts"], files=files, source_sha256=conversion.source_sha256)
            trying.keep_trial(weights=weights, tried=tried)
            version = release_model(wanted=_release(conversion, report), weights=weights)
    except Conflict as error:
        _end(conversion, ConversionState.FAILED, report={"code": error.code, "sentence": error.message})
        return
    _end(conversion, ConversionState.SUCCEEDED, report=report, version=version, corrects=None)
    if conversion.corrects_id not in (None, version.pk):
        withdraw_version(conversion.corrects_id)


def _release(conversion: Conversion, report: dict[str, Any]) -> Release:
    """Return what was asked for. Where its outputs may be read in ways to choose from, its owner is asked."""
    return Release(
        owner_id=conversion.owner_id,
        name=conversion.name,
        title=conversion.title,
        publish=conversion.publish,
        is_confirmed=not report.get("choices"),
    )


@transaction.atomic
def _fail(held: _Claim, report: dict[str, Any]) -> None:
    conversion = held.rows.select_for_update().first()
    if conversion is not None:
        _end(conversion, ConversionState.FAILED, report=report)


def _end(conversion: Conversion, state: ConversionState, **changes: Any) -> None:
    now = timezone.now()
    Conversion.objects.filter(pk=conversion.pk).update(
        state=state,
        source=None,
        lease_token=None,
        lease_expires_at=None,
        completed_at=now,
        updated_at=now,
        **changes,
    )


# --- What was lost.


def conversions_waiting(*, older_than: timedelta) -> list[str]:
    """Return the ids of conversions that nobody is at, though they have been waiting for this long."""
    rows = _waiting().filter(updated_at__lt=Now() - older_than, attempts__lt=MAX_ATTEMPTS)
    return [str(pk) for pk in rows.order_by("id").values_list("pk", flat=True)]


def end_hopeless() -> None:
    """Refuse what was begun as often as may be and never finished."""
    report = {"ok": False, "code": "crashed", "sentence": _CRASHED}
    for conversion in _waiting().filter(attempts__gte=MAX_ATTEMPTS):
        held = _waiting().filter(pk=conversion.pk, attempts__gte=MAX_ATTEMPTS)
        with transaction.atomic():
            if held.select_for_update().exists():
                _end(conversion, ConversionState.FAILED, report=report)
