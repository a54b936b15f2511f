"""Run trials of converted models and save their speeds and samples."""

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
from workers.trials import launch
from workers.trials.launch import Trial, TrialSample

_WEBP = "image/webp"


@dataclass(frozen=True)
class StoredTrial:
    """A trial and its stored images: pairs of before and after, in the order of `trial.shown`."""

    trial: Trial
    device: str
    pictures: tuple[tuple[Stored | None, Stored | None], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the trial as it is stored in the conversion's report."""
        return {
            "device": self.device,
            "sentence": self.trial.sentence,
            "first_ms": self.trial.first_ms,
            "each_ms": self.trial.each_ms,
            "runs": self.trial.runs,
            "width": self.trial.width,
            "height": self.trial.height,
        }


def try_weights(folder: Path, *, scratch_in: Path) -> StoredTrial:
    """Run the converted model of a folder on the sample images of the site, and store the results."""
    result = launch.try_model(folder, scratch_in=scratch_in)
    pictures = tuple((_store(shown.before), _store(shown.after)) for shown in result.shown)
    return StoredTrial(result, devices.processor().name, pictures)


def run_trial(weights_id: UUID) -> bool:
    """Run a trial of weights that were converted elsewhere, and save the result.

    Return False if they no longer exist, or other work of the owner is in progress. Raises OSError if the
    storage fails.
    """
    rows = Weights.objects.filter(pk=weights_id)
    owner_id = rows.order_by("versions__id").values_list("versions__listing__owner", flat=True).first()
    weights = rows.first()
    if weights is None or owner_id is None:
        return False
    with owner_leases.acquire(owner_id) as lease:
        if lease is None:
            return False
        persist(lambda: rows.update(trials_left=Greatest(F("trials_left") - 1, 0), updated_at=Now()))
        with work_dirs.open_scratch() as scratch:
            tried = try_weights(fetch_model(weights, into=scratch), scratch_in=scratch)
        return persist(lambda: _save_trial(weights_id, tried))


def request_trial(weights_id: UUID | str) -> None:
    """Mark weights for a trial. A worker runs it later."""
    Weights.objects.filter(pk=weights_id).update(trials_left=MAX_ATTEMPTS, updated_at=Now())


def waiting() -> QuerySet[Weights]:
    """Return the weights that wait for a trial."""
    return Weights.objects.filter(trials_left__gt=0)


def fetch_model(weights: Weights, *, into: Path) -> Path:
    """Write the files of converted weights into a new folder of `into` and return it. Raises OSError."""
    digests = {FACTS: weights.model_json_id, GRAPH: weights.onnx_id, WEIGHTS: weights.safetensors_id}
    folder = into / "model"
    folder.mkdir()
    for name, digest in digests.items():
        (folder / name).write_bytes(blobs.read(digest))
    return folder


def keep_trial(*, weights: Weights, tried: StoredTrial) -> None:
    """Save the result of a trial. Call it in the transaction that has locked the weights.

    A later trial on the same device replaces the speed. Samples of the first trial stay.
    """
    trial = tried.trial
    if trial.first_ms is not None:
        Speed.objects.update_or_create(
            weights=weights,
            kind=DeviceKind.CPU,
            device=tried.device[:120],
            defaults={
                "first_ms": trial.first_ms,
                "each_ms": trial.each_ms,
                "runs": trial.runs,
                "width": trial.width,
                "height": trial.height,
            },
        )
    samples = list(_samples(weights, tried))
    if samples and not weights.samples.exists():
        blobs.register(stored for pair in tried.pictures for stored in pair if stored)
        Sample.objects.bulk_create(samples)


@transaction.atomic
def _save_trial(weights_id: UUID, tried: StoredTrial) -> bool:
    weights = Weights.objects.select_for_update(no_key=True).filter(pk=weights_id).first()
    if weights is not None:
        keep_trial(weights=weights, tried=tried)
        Weights.objects.filter(pk=weights_id).update(trials_left=0)
    return weights is not None


def _store(picture: ThumbnailResult | None) -> Stored | None:
    return None if picture is None else blobs.store(picture.data, _WEBP)


def _samples(weights: Weights, tried: StoredTrial) -> Iterator[Sample]:
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
    pictures = [picture for picture in (shown.before, shown.after) if picture]
    largest = max(pictures, key=lambda picture: picture.width)
    return largest.width, largest.height
