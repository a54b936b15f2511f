"""Timings of a job by stage and by file size. Large jobs are sampled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection
from django.utils.translation import gettext_lazy

from processing.models import Item, Job, State

# Stages of an image in a slot, in order. The wait in the queue comes before them.
STAGES = ("fetch", "decode", "run", "encode", "thumbnail", "store")
STAGE_NAMES = {
    "wait": gettext_lazy("Wait"),
    "fetch": gettext_lazy("Fetch"),
    "decode": gettext_lazy("Decode"),
    "run": gettext_lazy("Run"),
    "encode": gettext_lazy("Encode"),
    "thumbnail": gettext_lazy("Thumbnail"),
    "store": gettext_lazy("Store"),
}
MOST_SAMPLED = 5_000
MOST_POINTS = 400
BINS = 5
_BY_STAGE = """
    SELECT stage.key, avg(spent), percentile_cont(0.5) WITHIN GROUP (ORDER BY spent),
           percentile_cont(0.95) WITHIN GROUP (ORDER BY spent), count(*)
    FROM processing_item AS item, jsonb_each_text(item.timings) AS stage,
         LATERAL (SELECT stage.value::float8 AS spent) AS number
    WHERE item.job_id = %(job)s AND item.state = 'succeeded' AND NOT item.reused
      AND item.position = ANY(%(positions)s)
    GROUP BY stage.key
"""


@dataclass(frozen=True)
class StageTime:
    """Milliseconds of an image in one stage. `share` is the part of all work, 0 to 1."""

    stage: str
    mean: float
    median: float
    p95: float
    share: float = 0.0


@dataclass(frozen=True)
class Point:
    """One image: its size in bytes, and its work in milliseconds."""

    size: int
    spent: float


@dataclass(frozen=True)
class Bin:
    """Images of similar size: their number, smallest and largest size in bytes, mean milliseconds."""

    number: int
    least: int
    most: int
    spent: float


@dataclass(frozen=True)
class Times:
    """Timings of a job over `sampled` computed images, without reused results."""

    sampled: int
    wait: StageTime | None
    stages: Sequence[StageTime]
    points: Sequence[Point]

    @property
    def work(self) -> float:
        """Mean work per image, in milliseconds."""
        return sum(stage.mean for stage in self.stages)


def times_of(job: Job) -> Times:
    """Return the timings of a job, in two queries for any job size."""
    with connection.cursor() as cursor:
        cursor.execute(_BY_STAGE, {"job": job.pk, "positions": _positions(job, MOST_SAMPLED)})
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
    worked = sum(rows[stage][0] for stage in STAGES if stage in rows)
    stages = [_stage(stage, rows[stage], worked) for stage in STAGES if stage in rows]
    wait = _stage("wait", rows["wait"], 0) if "wait" in rows else None
    sampled = max((row[3] for row in rows.values()), default=0)
    return Times(sampled, wait, stages, _points(job))


def bins_of(points: Sequence[Point], number: int = BINS) -> list[Bin]:
    """Return images in `number` groups of similar size, with equal counts where possible."""
    ordered = sorted(points, key=lambda point: point.size)
    size = math.ceil(len(ordered) / number) if ordered else 1
    groups = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return [
        Bin(len(group), group[0].size, group[-1].size, sum(p.spent for p in group) / len(group))
        for group in groups
    ]


def _stage(name: str, row: Sequence[float], worked: float) -> StageTime:
    mean, median, p95 = row[:3]
    return StageTime(name, mean, median, p95, mean / worked if worked else 0.0)


def _positions(job: Job, most: int) -> list[int]:
    """Return the positions of sampled images, spread evenly over the job, at most `most`.

    A list, because the database can look up each position by its index.
    """
    return list(range(0, job.total, math.ceil(job.total / most)))


def _points(job: Job) -> list[Point]:
    sampled = _positions(job, MOST_POINTS)
    rows = Item.objects.filter(job=job, position__in=sampled, state=State.SUCCEEDED, reused=False)
    sizes = rows.order_by("position").values_list("blob__size", "timings")
    return [
        Point(size, sum(timings.get(stage, 0.0) for stage in STAGES)) for size, timings in sizes if timings
    ]
