"""Worker side of conversions: claim, convert in the sandbox, run the trial, save the result."""

import math
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from drive.storage import blobs
from drive.storage.blobs import Stored
from ipau.common import leases
from ipau.common.errors import Conflict
from ipau.common.postgresql.retry import persist
from market.models import Conversion, ConversionState
from market.sandbox import owner_leases, work_dirs
from market.sandbox.budgets import Budget, budget_of
from market.weights import trials
from market.weights.releases import TYPES, Release, keep_weights, release_model, withdraw_version
from market.weights.trials import StoredTrial
from workers.sandbox import run

MAX_ATTEMPTS = 3
# CPU time limit of a conversion: a base and a time per megabyte. On two cores of an EPYC the largest YOLO
# (114 MB) takes 12 seconds, the smallest (5 MB) 3, the largest as ONNX (227 MB) 10.
BASE_SECONDS = 60.0
SECONDS_A_MEGABYTE = 1.0
# Limit of wall time as a multiple of CPU time: on a busy machine jobs and pages have priority.
WALL_FACTOR = 5
_CRASHED = "These weights could not be converted: the worker process died in each attempt."
_STORAGE_LOST = "The content of this file is missing from the storage. Upload it again."


@dataclass(frozen=True)
class _Claim:
    """A conversion that this worker owns while the row has the token."""

    conversion: Conversion
    token: UUID

    @property
    def rows(self) -> models.QuerySet[Conversion]:
        return leases.owned(Conversion.objects.filter(pk=self.conversion.pk), self.token)

    def renew(self) -> bool:
        return leases.renew(self.rows, token=self.token, lease=owner_leases.LEASE)


def convert(conversion_id: UUID) -> bool:
    """Convert weights, unless this or other work of the owner is in progress.

    Return whether there was work to do. If the owner's time is used up, the conversion fails with a report.
    """
    owner_id = waiting().filter(pk=conversion_id).values_list("owner", flat=True).first()
    if owner_id is None:
        return False
    with owner_leases.acquire(owner_id) as lease:
        if lease is None:
            return False
        budget = budget_of(owner_id)
        if budget.is_spent:
            return persist(lambda: _refuse_over_budget(conversion_id, budget))
        claim = persist(lambda: _claim(conversion_id, lease.token))
        if claim is not None:
            lease.also_renew = claim.renew
            _run(claim, lease.lost)
        return claim is not None


def _run(claim: _Claim, lost: threading.Event) -> None:
    with work_dirs.open_folder(claim.conversion.pk, claim.token) as folder:
        try:
            upload = _copy_out(claim, folder)
        except FileNotFoundError:
            persist(lambda: _fail(claim, {"code": "gone", "sentence": _STORAGE_LOST}))
            return
        report, bundle = _convert(claim.conversion, upload, folder / "out")
        if not report["ok"]:
            persist(lambda: _fail(claim, report))
            return
        if lost.is_set():
            # Another worker has taken over and will save its own result.
            return
        tried = trials.try_weights(bundle, scratch_in=folder)
        report = _storable({**report, "trial": tried.as_json()})
        files = {name: _store(bundle / name) for name in TYPES}
        persist(lambda: _succeed(claim, report, files, tried))


# --- Claims.


def waiting() -> models.QuerySet[Conversion]:
    """Return the conversions that can be claimed."""
    return _free().filter(attempts__lt=MAX_ATTEMPTS)


def _free() -> models.QuerySet[Conversion]:
    overdue = Q(state=ConversionState.PROCESSING) & leases.expired()
    return Conversion.objects.filter(Q(state=ConversionState.STARTING) | overdue)


def _claim(conversion_id: UUID, token: UUID) -> _Claim | None:
    claimed = leases.claim(
        waiting().filter(pk=conversion_id),
        token=token,
        lease=owner_leases.LEASE,
        state=ConversionState.PROCESSING,
        started_at=Coalesce(F("started_at"), Now()),
        updated_at=Now(),
    )
    return _Claim(Conversion.objects.get(pk=conversion_id), token) if claimed else None


# --- Converting.


def _copy_out(claim: _Claim, folder: Path) -> Path:
    """Copy the upload from the storage into `folder`. Raises OSError."""
    target = folder / "upload"
    with (
        blobs.open_bytes(claim.conversion.source_sha256) as source,
        target.open("wb") as out,
    ):
        shutil.copyfileobj(source, out, blobs.CHUNK)
    return target


def limits_for(size: int) -> run.Limits:
    """Return the limits of a conversion of a file of `size` bytes."""
    most = float(settings.CONVERSION_SECONDS)
    processor = min(most, BASE_SECONDS + SECONDS_A_MEGABYTE * size / 1e6)
    return run.Limits(cpu=math.ceil(processor), wall=min(most, WALL_FACTOR * processor))


def _convert(conversion: Conversion, upload: Path, out: Path) -> tuple[dict[str, Any], Path]:
    """Return the sandbox's report, cleaned for the database, and the folder of the converted model."""
    config: Path | None = None
    if conversion.config:
        config = upload.with_name("config.json")
        config.write_text(conversion.config)
    limits = limits_for(upload.stat().st_size)
    report = run.convert(
        upload,
        out,
        family=conversion.family or None,
        config=config,
        limits=limits,
        scratch_in=upload.parent,
    )
    return _storable(report.as_json()), out


def _storable(value: Any) -> Any:
    """Return a copy without characters that PostgreSQL's JSON rejects: NUL and lone surrogates."""
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


# --- Results.


@transaction.atomic
def _succeed(claim: _Claim, report: dict[str, Any], files: dict[str, Stored], tried: StoredTrial) -> None:
    """Save and release the model. If the lease is lost, do nothing: the sweep deletes the stored files."""
    conversion = claim.rows.select_for_update().first()
    if conversion is None:
        return
    try:
        with transaction.atomic():
            weights = keep_weights(facts=report["facts"], files=files, source_sha256=conversion.source_sha256)
            trials.keep_trial(weights=weights, tried=tried)
            version = release_model(wanted=_release(conversion, report), weights=weights)
    except Conflict as error:
        _end(conversion, ConversionState.FAILED, report={"code": error.code, "sentence": error.message})
        return
    _end(conversion, ConversionState.SUCCEEDED, report=report, version=version, corrects=None)
    if conversion.corrects_id not in (None, version.pk):
        withdraw_version(conversion.corrects_id)


def _release(conversion: Conversion, report: dict[str, Any]) -> Release:
    """Return the requested release. If the report has choices, the owner has to confirm the layout."""
    return Release(
        owner_id=conversion.owner_id,
        name=conversion.name,
        title=conversion.title,
        publish=conversion.publish,
        is_confirmed=not report.get("choices"),
    )


@transaction.atomic
def _fail(claim: _Claim, report: dict[str, Any]) -> None:
    conversion = claim.rows.select_for_update().first()
    if conversion is not None:
        _end(conversion, ConversionState.FAILED, report=report)


def _end(conversion: Conversion, state: ConversionState, **changes: Any) -> None:
    now = timezone.now()
    Conversion.objects.filter(pk=conversion.pk).update(
        state=state,
        source=None,
        completed_at=now,
        updated_at=now,
        **leases.released(),
        **changes,
    )


def _refuse_over_budget(conversion_id: UUID, budget: Budget) -> bool:
    report = {"ok": False, "code": "conversion_budget", "sentence": budget.sentence}
    return _end_waiting(waiting().filter(pk=conversion_id), report)


# --- Exhausted attempts.


def fail_exhausted() -> None:
    """Fail conversions that have no attempts left."""
    report = {"ok": False, "code": "crashed", "sentence": _CRASHED}
    exhausted = _free().filter(attempts__gte=MAX_ATTEMPTS)
    for pk in exhausted.values_list("pk", flat=True):
        _end_waiting(exhausted.filter(pk=pk), report)


@transaction.atomic
def _end_waiting(rows: models.QuerySet[Conversion], report: dict[str, Any]) -> bool:
    """Fail an unclaimed conversion. Return whether it was still unclaimed."""
    conversion = rows.select_for_update().first()
    if conversion is not None:
        _end(conversion, ConversionState.FAILED, report=report)
    return conversion is not None
