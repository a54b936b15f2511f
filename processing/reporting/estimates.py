"""What a job will cost at most and how long it will take, from what pictures have taken lately."""

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

# The mean is over so many pictures of so many jobs that a version was run on last.
PICTURES_LOOKED_AT = 100
JOBS_LOOKED_AT = 10
# What a picture is taken to need, in seconds, as long as nothing was run.
UNKNOWN_SECONDS = 0.1
# Pictures of a job that have not ended, by its counters: there may be too many rows to count each time.
LEFT = F("total") - F("succeeded") - F("failed") - F("canceled")


@dataclass(frozen=True)
class Quote:
    """A job's price at most, in millicredits, and the seconds until its last picture, None where no worker
    serves its queue."""

    pictures: int
    price_each: int
    seconds: float | None
    queue: str
    served: bool

    @property
    def price(self) -> int:
        return self.price_each * self.pictures


def credits_text(millicredits: int) -> str:
    """Write an amount in credits: «1.5», «0.004»."""
    return f"{Decimal(millicredits) / 1000:,.3f}".rstrip("0").rstrip(".")


def quote(*, version: Version, queue: str, pictures: int) -> Quote:
    """Estimate a job that is not there yet. The price is a promise, the time is not."""
    slots = registry.slots_of(queue)
    seconds = None
    if slots:
        each = seconds_each([version.pk])[version.pk]
        seconds = (backlog_seconds(queue) + each * pictures) / slots
    return Quote(pictures, price_each_of(version), seconds, queue, bool(slots))


def seconds_each(versions: list[UUID]) -> dict[UUID, float]:
    """Return the seconds of one slot that a picture takes, by version; two queries for each."""
    found = {}
    for version in versions:
        jobs = (
            Job.objects.filter(version=version).order_by("-id").values_list("pk", flat=True)[:JOBS_LOOKED_AT]
        )
        rows = Item.objects.filter(job__in=list(jobs), state=State.SUCCEEDED, reused=False)
        lately = rows.order_by("-job", "-position").values_list("timings", flat=True)[:PICTURES_LOOKED_AT]
        spent = [_worked(timings) for timings in lately if timings]
        found[version] = mean(spent) if spent else UNKNOWN_SECONDS
    return found


def backlog_seconds(queue: str) -> float:
    """Return the seconds of one slot that all that is to be done in a queue will take."""
    return seconds_of(Job.objects.open().filter(queue=queue))


def seconds_of(jobs: QuerySet[Job]) -> float:
    """Return the seconds of one slot that what is left of these jobs will take."""
    waiting = dict(jobs.values_list("version").annotate(n=Sum(LEFT)).order_by())
    each = seconds_each(list(waiting))
    return float(sum(each[version] * number for version, number in waiting.items()))


def _worked(timings: Mapping[str, float]) -> float:
    return sum(spent for stage, spent in timings.items() if stage != "wait") / 1000
