"""How fast weights are: what jobs took is added up here, and told beside what their trial took."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Prefetch, QuerySet
from django.utils.translation import gettext as _

from ipau.common.ids import uuid7
from market.models import DeviceKind, JobSpeed, Listing, Speed, Weights
from workers.devices import Device

# One statement, so that slots which add to the same row at once wait for each other and lose nothing.
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
class ToldSpeed:
    """How fast weights are on one device, in words: when they were tried, and in jobs. Empty: not known.

    Attributes:
        size: of the pictures that they were tried on.
        each: the mean over so many `pictures` of jobs.
    """

    device: str
    first: str = ""
    later: str = ""
    size: str = ""
    each: str = ""
    pictures: int = 0


def add_pictures(*, digest: str, device: Device, pictures: int, run_ms: float, slot_ms: float) -> None:
    """Add what pictures of jobs took; call it in the transaction that records these, as its last statement.

    The row may be one for a whole cluster, and whoever has added to it keeps it until the transaction ends.

    Args:
        digest: of the weights. A job keeps them, so they are there.
        pictures: how many, one or more.
        run_ms: milliseconds that they spent in the model's step, together.
        slot_ms: milliseconds that the slot was busy with them, together.
    """
    given: dict[str, Any] = {"digest": digest, "pictures": pictures, "run_ms": run_ms, "slot_ms": slot_ms}
    with connection.cursor() as cursor:
        cursor.execute(_ADD, {**given, "id": uuid7(), "kind": device.kind, "device": device.name[:120]})


@dataclass(frozen=True)
class TrialTime:
    """How long weights took with an image of so many `pixels` when they were tried on a processor.

    `first_seconds` is the time of the first image, which includes loading the weights.
    """

    seconds: float
    first_seconds: float
    pixels: int


def trial_times(digests: Iterable[str]) -> dict[str, TrialTime]:
    """Return by their digests how long weights took in their trials; the slowest of several processors."""
    rows = Speed.objects.filter(weights__digest__in=list(digests), kind=DeviceKind.CPU)
    found: dict[str, TrialTime] = {}
    for row in rows.select_related("weights"):
        each_ms = row.each_ms or row.first_ms
        tried = TrialTime(each_ms / 1000, row.first_ms / 1000, max(1, row.width * row.height))
        slowest = found.setdefault(row.weights.digest, tried)
        if tried.seconds > slowest.seconds:
            found[row.weights.digest] = tried
    return found


def with_job_speeds(listings: QuerySet[Listing]) -> QuerySet[Listing]:
    """Fetch along how fast the weights of the fetched versions are in jobs."""
    alone = Weights.objects.only("pk").prefetch_related("job_speeds")
    return listings.prefetch_related(Prefetch("versions__weights", queryset=alone))


def tell_speeds(weights: Weights) -> list[ToldSpeed]:
    """Return how fast weights are on each device on which they were tried or run in jobs."""
    tried = {(speed.kind, speed.device): speed for speed in weights.speeds.all()}
    seen = {(speed.kind, speed.device): speed for speed in weights.job_speeds.all()}
    return [_tell(key[1], tried.get(key), seen.get(key)) for key in sorted({*tried, *seen})]


def tell_busiest(speeds: Iterable[JobSpeed]) -> ToldSpeed | None:
    """Return how fast weights are in jobs on the device that has run most pictures; None before any."""
    busiest = max(speeds, key=lambda speed: speed.pictures, default=None)
    return _tell(busiest.device, None, busiest) if busiest else None


def say_speed(speed: Speed) -> str:
    """Say how long a picture took: «First picture 310 ms, then 45 ms a picture on AMD EPYC 9B14»."""
    said = {
        "first": _milliseconds(speed.first_ms),
        "device": speed.device,
        "width": speed.width,
        "height": speed.height,
    }
    if speed.each_ms is None:
        return _("First picture %(first)s on %(device)s (%(width)d × %(height)d pixels)") % said
    text = _("First picture %(first)s, then %(each)s a picture on %(device)s (%(width)d × %(height)d pixels)")
    return text % {**said, "each": _milliseconds(speed.each_ms)}


def _tell(device: str, tried: Speed | None, seen: JobSpeed | None) -> ToldSpeed:
    told: dict[str, Any] = {}
    if tried:
        told["first"] = _milliseconds(tried.first_ms)
        told["later"] = _milliseconds(tried.each_ms) if tried.each_ms else ""
        told["size"] = f"{tried.width} × {tried.height}"
    if seen:
        told["each"], told["pictures"] = _milliseconds(seen.each_ms), seen.pictures
    return ToldSpeed(device, **told)


def _milliseconds(spent: float) -> str:
    if spent >= 10_000:
        return _("%(n).0f s") % {"n": spent / 1000}
    if spent >= 1000:
        return _("%(n).1f s") % {"n": spent / 1000}
    return _("%(n)s ms") % {"n": f"{spent:.0f}" if spent >= 10 else f"{spent:.1f}"}
