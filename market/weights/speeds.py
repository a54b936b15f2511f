"""Speeds of weights: add up times of jobs, and format them with those of the trial."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Prefetch, QuerySet
from django.utils.translation import gettext as _

from ipau.common.ids import uuid7
from market.models import DeviceKind, JobSpeed, Listing, Speed, Weights
from workers.devices import Device

# One upsert, so that concurrent slots do not lose updates.
_ADD = """
    INSERT INTO market_jobspeed AS speed
        (id, created_at, updated_at, weights_id, kind, device, pictures, run_ms, slot_ms)
    SELECT %(id)s, statement_timestamp(), statement_timestamp(), weights.id,
           %(kind)s, %(device)s, %(pictures)s, %(run_ms)s, %(slot_ms)s
    FROM market_weights AS weights
    WHERE weights.digest = %(digest)s
    ON CONFLICT (weights_id, kind, device) DO UPDATE
    SET pictures = speed.pictures + excluded.pictures, run_ms = speed.run_ms + excluded.run_ms,
        slot_ms = speed.slot_ms + excluded.slot_ms, updated_at = excluded.updated_at
"""


@dataclass(frozen=True)
class SpeedText:
    """Formatted speed of weights on one device. Empty: unknown.

    Attributes:
        first: time of the first image in the trial.
        later: median time of later images in the trial.
        size: size of the trial images.
        each: mean time per image in jobs.
        pictures: the number of images in jobs.
    """

    device: str
    first: str = ""
    later: str = ""
    size: str = ""
    each: str = ""
    pictures: int = 0


def add_pictures(*, digest: str, device: Device, pictures: int, run_ms: float, slot_ms: float) -> None:
    """Add the time of images in jobs. Call it last in the transaction that records the images.

    The whole cluster may share the row, and it stays locked until the transaction ends.

    Args:
        digest: digest of the weights.
        pictures: number of images, at least 1.
        run_ms: total milliseconds in the model's step.
        slot_ms: total milliseconds that the slot was busy.
    """
    values: dict[str, Any] = {"digest": digest, "pictures": pictures, "run_ms": run_ms, "slot_ms": slot_ms}
    with connection.cursor() as cursor:
        cursor.execute(_ADD, {**values, "id": uuid7(), "kind": device.kind, "device": device.name[:120]})


@dataclass(frozen=True)
class TrialTime:
    """Time of weights per image of `pixels` pixels in their trial on a CPU.

    `first_seconds` is the time of the first image, which includes loading the weights.
    """

    seconds: float
    first_seconds: float
    pixels: int


def trial_times(digests: Iterable[str]) -> dict[str, TrialTime]:
    """Return the trial time of weights by digest, on the slowest of several CPUs."""
    rows = Speed.objects.filter(weights__digest__in=list(digests), kind=DeviceKind.CPU)
    found: dict[str, TrialTime] = {}
    for row in rows.select_related("weights"):
        each_ms = row.each_ms or row.first_ms
        measured = TrialTime(each_ms / 1000, row.first_ms / 1000, max(1, row.width * row.height))
        slowest = found.setdefault(row.weights.digest, measured)
        if measured.seconds > slowest.seconds:
            found[row.weights.digest] = measured
    return found


def with_job_speeds(listings: QuerySet[Listing]) -> QuerySet[Listing]:
    """Prefetch the speeds in jobs of the weights of versions."""
    alone = Weights.objects.only("pk").prefetch_related("job_speeds")
    return listings.prefetch_related(Prefetch("versions__weights", queryset=alone))


def describe_speeds(weights: Weights) -> list[SpeedText]:
    """Return the speeds of weights, one per device of their trial or jobs."""
    in_trial = {(speed.kind, speed.device): speed for speed in weights.speeds.all()}
    in_jobs = {(speed.kind, speed.device): speed for speed in weights.job_speeds.all()}
    return [_format(key[1], in_trial.get(key), in_jobs.get(key)) for key in sorted({*in_trial, *in_jobs})]


def describe_busiest(speeds: Iterable[JobSpeed]) -> SpeedText | None:
    """Return the speed in jobs on the device with most images; None without jobs."""
    busiest = max(speeds, key=lambda speed: speed.pictures, default=None)
    return _format(busiest.device, None, busiest) if busiest else None


def format_speed(speed: Speed) -> str:
    """Return a trial speed as text: «First image 310 ms, then 45 ms per image on AMD EPYC 9B14»."""
    values = {
        "first": _milliseconds(speed.first_ms),
        "device": speed.device,
        "width": speed.width,
        "height": speed.height,
    }
    if speed.each_ms is None:
        return _("First image %(first)s on %(device)s (%(width)d × %(height)d pixels)") % values
    text = _("First image %(first)s, then %(each)s per image on %(device)s (%(width)d × %(height)d pixels)")
    return text % {**values, "each": _milliseconds(speed.each_ms)}


def _format(device: str, in_trial: Speed | None, in_jobs: JobSpeed | None) -> SpeedText:
    texts: dict[str, Any] = {}
    if in_trial:
        texts["first"] = _milliseconds(in_trial.first_ms)
        texts["later"] = _milliseconds(in_trial.each_ms) if in_trial.each_ms else ""
        texts["size"] = f"{in_trial.width} × {in_trial.height}"
    if in_jobs:
        texts["each"], texts["pictures"] = _milliseconds(in_jobs.each_ms), in_jobs.pictures
    return SpeedText(device, **texts)


def _milliseconds(duration: float) -> str:
    if duration >= 10_000:
        return _("%(n).0f s") % {"n": duration / 1000}
    if duration >= 1000:
        return _("%(n).1f s") % {"n": duration / 1000}
    return _("%(n)s ms") % {"n": f"{duration:.0f}" if duration >= 10 else f"{duration:.1f}"}
