"""What the trial of a converted model leaves: its speed on this machine, and samples of what it makes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Greatest, Now

from drive.storage import blobs
from drive.storage.blobs import Stored
from ipau.common.postgresql.retry import persist
from market.models import MAX_ATTEMPTS, DeviceKind, Sample, Speed, Weights
from market.sandbox import owner_leases, work_dirs
from workers import devices
from workers.bundle import FACTS, GRAPH, WEIGHTS
from workers.engine import ThumbnailResult
from workers.trials import launch as trial
from workers.trials.launch import Trial, TrialSample

_WEBP = "image/webp"


@dataclass(frozen=True)
class Tried:
    """A trial whose pictures lie in the storage: those before and after, in the order of `trial.shown`."""

    trial: Trial
    device: str
    pictures: tuple[tuple[Stored | None, Stored | None], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what the report of a conversion keeps of it."""
        return {
            "device": self.device,
            "sentence": self.trial.sentence,
            "first_ms": self.trial.first_ms,
            "each_ms": self.trial.each_ms,
            "runs": self.trial.runs,
            "width": self.trial.width,
            "height": self.trial.height,
        }


def try_weights(folder: Path, *, scratch_in: Path) -> Tried:
    """Run the converted model in a folder over our pictures; write what it made into the storage."""
    done = trial.try_model(folder, scratch_in=scratch_in)
    pictures = tuple((_store(shown.before), _store(shown.after)) for shown in done.shown)
    return Tried(done, devices.processor().name, pictures)


def try_kept(weights_id: UUID) -> bool:
    """Try weights that were converted elsewhere, and keep what shows.

    Return whether they are still there, and something of the owner's was not just being done. Raises OSError
    where the storage does not give them.
    """
    rows = Weights.objects.filter(pk=weights_id)
    owner_id = rows.order_by("versions__id").values_list("versions__listing__owner", flat=True).first()
    weights = rows.first()
    if weights is None or owner_id is None:
        return False
    with owner_leases.holding(owner_id) as lease:
        if lease is None:
            return False
        persist(lambda: rows.update(trials_left=Greatest(F("trials_left") - 1, 0), updated_at=Now()))
        with work_dirs.open_scratch() as scratch:
            tried = try_weights(fetch_model(weights, into=scratch), scratch_in=scratch)
        return persist(lambda: _keep_of(weights_id, tried))


def ask(weights_id: UUID | str) -> None:
    """Have weights tried that no conversion has tried, once a worker comes to it."""
    Weights.objects.filter(pk=weights_id).update(trials_left=MAX_ATTEMPTS, updated_at=Now())


def waiting() -> QuerySet[Weights]:
    """Return the weights that are still to be tried."""
    return Weights.objects.filter(trials_left__gt=0)


def fetch_model(weights: Weights, *, into: Path) -> Path:
    """Write the files of converted weights into a new folder of `into` and return it. Raises OSError."""
    digests = {FACTS: weights.model_json_id, GRAPH: weights.onnx_id, WEIGHTS: weights.safetensors_id}
    folder = into / "model"
    folder.mkdir()
    for name, digest in digests.items():
        (folder / name).write_bytes(blobs.read(digest))
    return folder


def keep_trial(*, weights: Weights, tried: Tried) -> None:
    """Write down what a trial showed; call it in the transaction that keeps the weights, which are locked.

    A later trial on the same device counts instead. Samples stay as they first were.
    """
    done = tried.trial
    if done.first_ms is not None:
        Speed.objects.update_or_create(
            weights=weights,
            kind=DeviceKind.CPU,
            device=tried.device[:120],
            defaults={
                "first_ms": done.first_ms,
                "each_ms": done.each_ms,
                "runs": done.runs,
                "width": done.width,
                "height": done.height,
            },
        )
    made = list(_samples(weights, tried))
    if made and not weights.samples.exists():
        blobs.register(stored for pair in tried.pictures for stored in pair if stored)
        Sample.objects.bulk_create(made)


@transaction.atomic
def _keep_of(weights_id: UUID, tried: Tried) -> bool:
    weights = Weights.objects.select_for_update(no_key=True).filter(pk=weights_id).first()
    if weights is not None:
        keep_trial(weights=weights, tried=tried)
        Weights.objects.filter(pk=weights_id).update(trials_left=0)
    return weights is not None


def _store(picture: ThumbnailResult | None) -> Stored | None:
    return None if picture is None else blobs.store(picture.data, _WEBP)


def _samples(weights: Weights, tried: Tried) -> Iterator[Sample]:
    pairs = zip(tried.trial.shown, tried.pictures, strict=True)
    for position, (shown, (before, after)) in enumerate(pairs):
        if before is None and after is None:
            continue
        size = _size(shown)
        yield Sample(
            weights=weights,
            position=position,
            before_id=before.sha256 if before else None,
            after_id=after.sha256 if after else None,
            caption=shown.caption,
            width=size[0],
            height=size[1],
            seen=[one.model_dump(exclude_none=True) for one in shown.seen],
        )


def _size(shown: TrialSample) -> tuple[int, int]:
    there = [picture for picture in (shown.before, shown.after) if picture]
    largest = max(there, key=lambda picture: picture.width)
    return largest.width, largest.height
