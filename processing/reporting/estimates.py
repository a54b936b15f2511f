"""Estimates of the highest price and the duration of a job, from timings of recent images."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from statistics import mean
from uuid import UUID

from django.db.models import F, QuerySet, Sum

from market.models import Version
from market.pipelines.model_steps import price_each_of
from processing.fleet import registry
from processing.models import Item, Job, State

# The mean covers this many recent images, from this many recent jobs of a version.
PICTURES_LOOKED_AT = 100
JOBS_LOOKED_AT = 10
# Assumed seconds per image of a version that has not run yet.
UNKNOWN_SECONDS = 0.1
# Images of a job that have not ended, from its counters. Counting the rows would be too slow.
LEFT = F("total") - F("succeeded") - F("failed") - F("canceled")


@dataclass(frozen=True)
class Quote:
    """The highest price of a job, in millicredits, and the seconds until its last image.

    `seconds` is None if no worker serves the queue.
    """

    pictures: int
    price_each: int
    seconds: float | None
    queue: str
    served: bool

    @property
    def price(self) -> int:
        return self.price_each * self.pictures


def credits_text(millicredits: int) -> str:
    """Return an amount in credits as text: «1.5», «0.004»."""
    return f"{Decimal(millicredits) / 1000:,.3f}".rstrip("0").rstrip(".")


def quote(*, version: Version, queue: str, pictures: int) -> Quote:
    """Return a quote for a new job. The price is binding, the time is an estimate."""
    slots = registry.slots_of(queue)
    seconds = None
    if slots:
        each = seconds_each([version.pk])[version.pk]
        seconds = (backlog_seconds(queue) + each * pictures) / slots
    return Quote(pictures, price_each_of(version), seconds, queue, bool(slots))


def seconds_each(versions: list[UUID]) -> dict[UUID, float]:
    """Return the slot seconds that one image takes, by version. Two queries for each version."""
    seconds = {}
    for version in versions:
        jobs = (
            Job.objects.filter(version=version).order_by("-id").values_list("pk", flat=True)[:JOBS_LOOKED_AT]
        )
        rows = Item.objects.filter(job__in=list(jobs), state=State.SUCCEEDED, reused=False)
        recent = rows.order_by("-job", "-position").values_list("timings", flat=True)[:PICTURES_LOOKED_AT]
        spent = [_worked(timings) for timings in recent if timings]
        seconds[version] = mean(spent) if spent else UNKNOWN_SECONDS
    return seconds


def backlog_seconds(queue: str) -> float:
    """Return the slot seconds that all open jobs of a queue still take."""
    return seconds_of(Job.objects.open().filter(queue=queue))


def seconds_of(jobs: QuerySet[Job]) -> float:
    """Return the slot seconds that the remaining images of these jobs take."""
    waiting = dict(jobs.values_list("version").annotate(n=Sum(LEFT)).order_by())
    each = seconds_each(list(waiting))
    return float(sum(each[version] * number for version, number in waiting.items()))


def _worked(timings: Mapping[str, float]) -> float:
    return sum(spent for stage, spent in timings.items() if stage != "wait") / 1000
