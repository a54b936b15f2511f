"""What a worker does with uploaded weights: have them converted in the sandbox, and keep what comes of it."""

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
from market.weights.trials import Tried
from workers.sandbox import run

MAX_ATTEMPTS = 3
# What a conversion may take of the processor: so long, and longer the larger the file is. On two cores of an
# EPYC the largest YOLO (114 MB) takes 12 seconds, the smallest (5 MB) 3, the largest as ONNX (227 MB) 10.
BASE_SECONDS = 60.0
SECONDS_A_MEGABYTE = 1.0
# By the clock, so many times as long: on a busy machine jobs and pages come first.
PATIENCE = 5
_CRASHED = "These weights could not be converted: each attempt ended before it was done."
_STORAGE_LOST = "The bytes of this file are no longer there."


@dataclass(frozen=True)
class _Claim:
    """A conversion that this worker owns for as long as it carries the token."""

    conversion: Conversion
    token: UUID

    @property
    def rows(self) -> models.QuerySet[Conversion]:
        return leases.owned(Conversion.objects.filter(pk=self.conversion.pk), self.token)

    def renew(self) -> bool:
        return leases.renew(self.rows, token=self.token, lease=owner_leases.LEASE)


def convert(conversion_id: UUID) -> bool:
    """Do a conversion, unless somebody is at it or at something else of its owner's.

    Return whether there was anything to do. Where the owner's minutes are used up, that is to say so.
    """
    owner_id = waiting().filter(pk=conversion_id).values_list("owner", flat=True).first()
    if owner_id is None:
        return False
    with owner_leases.holding(owner_id) as lease:
        if lease is None:
            return False
        budget = budget_of(owner_id)
        if budget.is_spent:
            return persist(lambda: _refuse_for_today(conversion_id, budget))
        held = persist(lambda: _claim(conversion_id, lease.token))
        if held is not None:
            lease.also_renew = held.renew
            _do(held, lease.lost)
        return held is not None


def _do(held: _Claim, lost: threading.Event) -> None:
    with work_dirs.open_folder(held.conversion.pk, held.token) as folder:
        try:
            upload = _copy_out(held, folder)
        except FileNotFoundError:
            persist(lambda: _fail(held, {"code": "gone", "sentence": _STORAGE_LOST}))
            return
        report, made = _convert(held.conversion, upload, folder / "out")
        if not report["ok"]:
            persist(lambda: _fail(held, report))
            return
        if lost.is_set():
            # Another worker converts these weights again, and will keep its own.
            return
        tried = trials.try_weights(made, scratch_in=folder)
        report = _storable({**report, "trial": tried.as_json()})
        files = {name: _store(made / name) for name in TYPES}
        persist(lambda: _succeed(held, report, files, tried))


# --- Whose it is.


def waiting() -> models.QuerySet[Conversion]:
    """Return the conversions that nobody is at and that may be begun."""
    return _free().filter(attempts__lt=MAX_ATTEMPTS)


def _free() -> models.QuerySet[Conversion]:
    overdue = Q(state=ConversionState.PROCESSING) & leases.expired()
    return Conversion.objects.filter(Q(state=ConversionState.STARTING) | overdue)


def _claim(conversion_id: UUID, token: UUID) -> _Claim | None:
    taken = leases.claim(
        waiting().filter(pk=conversion_id),
        token=token,
        lease=owner_leases.LEASE,
        state=ConversionState.PROCESSING,
        started_at=Coalesce(F("started_at"), Now()),
        updated_at=Now(),
    )
    return _Claim(Conversion.objects.get(pk=conversion_id), token) if taken else None


# --- Converting.


def _copy_out(held: _Claim, folder: Path) -> Path:
    """Write the upload's bytes to a file of its own. Raises OSError."""
    target = folder / "upload"
    with (
        blobs.open_bytes(held.conversion.source_sha256) as source,
        target.open("wb") as out,
    ):
        shutil.copyfileobj(source, out, blobs.CHUNK)
    return target


def limits_for(size: int) -> run.Limits:
    """Return what the conversion of a file of so many bytes may use."""
    most = float(settings.CONVERSION_SECONDS)
    processor = min(most, BASE_SECONDS + SECONDS_A_MEGABYTE * size / 1e6)
    return run.Limits(cpu=math.ceil(processor), wall=min(most, PATIENCE * processor))


def _convert(conversion: Conversion, upload: Path, out: Path) -> tuple[dict[str, Any], Path]:
    """Return the sandbox's report, as the database can keep it, and the folder of what was made."""
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
            trials.keep_trial(weights=weights, tried=tried)
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
        completed_at=now,
        updated_at=now,
        **leases.released(),
        **changes,
    )


def _refuse_for_today(conversion_id: UUID, budget: Budget) -> bool:
    report = {"ok": False, "code": "conversion_budget", "sentence": budget.sentence}
    return _end_waiting(waiting().filter(pk=conversion_id), report)


# --- What was lost.


def end_hopeless() -> None:
    """Refuse what was begun as often as may be and never finished."""
    report = {"ok": False, "code": "crashed", "sentence": _CRASHED}
    hopeless = _free().filter(attempts__gte=MAX_ATTEMPTS)
    for pk in hopeless.values_list("pk", flat=True):
        _end_waiting(hopeless.filter(pk=pk), report)


@transaction.atomic
def _end_waiting(rows: models.QuerySet[Conversion], report: dict[str, Any]) -> bool:
    """Refuse a conversion that nobody is at; return whether it was still so."""
    conversion = rows.select_for_update().first()
    if conversion is not None:
        _end(conversion, ConversionState.FAILED, report=report)
    return conversion is not None
