"""What somebody who waits for a job wants to know: how far, how long still, what came out, what failed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Prefetch, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from drive.files.listing import with_thumbnails
from drive.models import File, FileKind
from ipau.common.errors import Invalid
from processing.fleet import registry
from processing.models import Item, Job, Output, State
from processing.reporting import estimates

RESULTS_A_PAGE = 48
MOST_REASONS = 20
MOST_NAMES = 200
# Before that much has passed the pace says little.
SECONDS_TO_JUDGE = 1.5


@dataclass(frozen=True)
class Failures:
    """Pictures that failed for one reason. `names` may be only some of them."""

    reason: str
    number: int
    names: tuple[str, ...]

    @property
    def more(self) -> int:
        return self.number - len(self.names)


@dataclass(frozen=True)
class Results:
    """Results in the order in which they came. `cursor` asks for those that come after."""

    items: Sequence[Item]
    cursor: str
    more: bool


def seconds_left(job: Job) -> float | None:
    """Estimate from the pace so far; None while that says nothing."""
    if not job.is_open or job.started_at is None or not job.done:
        return None
    spent = (timezone.now() - job.started_at).total_seconds()
    return spent * (job.total - job.done) / job.done if spent >= SECONDS_TO_JUDGE else None


def time_text(seconds: float) -> str:
    """Write a duration as people say it: «40 s», «3 min», «2 h 5 min»."""
    whole = max(1, round(seconds))
    if whole < 100:
        return _("%(n)d s") % {"n": whole}
    minutes = round(whole / 60)
    if minutes < 100:
        return _("%(n)d min") % {"n": minutes}
    return _("%(h)d h %(m)d min") % {"h": minutes // 60, "m": minutes % 60}


@dataclass(frozen=True)
class QueuePosition:
    """Where a job stands in its queue: the owner's pictures that run first, how many other owners take turns
    with them, and the seconds until its last picture, None where no worker serves the queue."""

    before: int
    others: int
    seconds: float | None


def place_of(job: Job) -> QueuePosition:
    """Estimate when an open job will be done, from how owners share their queue.

    Owners take turns, so this one gets at least one part in so many of the slots, and all of them once the
    others are done.
    """
    before, others = ahead_of(job)
    slots = registry.slots_of(job.queue)
    if not slots:
        return QueuePosition(before, others, None)
    waiting = Job.objects.open().filter(queue=job.queue)
    mine = waiting.filter(owner=job.owner_id)
    own = estimates.seconds_of(mine.filter(pk__lte=job.pk))
    everything = estimates.seconds_of(waiting)
    return QueuePosition(before, others, min(own * (others + 1), everything) / slots)


def ahead_of(job: Job) -> tuple[int, int]:
    """Return how many pictures of its owner run before a job's, and how many other owners take turns.

    Two queries.
    """
    waiting = Job.objects.open().filter(queue=job.queue)
    earlier = waiting.filter(owner=job.owner_id, pk__lt=job.pk)
    before: int = earlier.aggregate(n=Sum(estimates.LEFT, default=0))["n"]
    return before, waiting.exclude(owner=job.owner_id).values("owner").distinct().count()


def waiting_text(job: Job) -> str:
    """Say why a job has not begun, and when it will be done; nothing for one that has begun."""
    if job.state != State.STARTING:
        return ""
    place = place_of(job)
    if place.seconds is None:
        return _("No worker is running for this queue: the job starts when one comes.")
    parts = []
    if place.before:
        text = ngettext(
            "%(n)s picture of yours runs first.", "%(n)s pictures of yours run first.", place.before
        )
        parts.append(text % {"n": f"{place.before:,}"})
    if place.others:
        text = ngettext(
            "You take turns with %(n)s other person.", "You take turns with %(n)s other people.", place.others
        )
        parts.append(text % {"n": place.others})
    if not parts:
        parts.append(_("It starts as soon as a worker is free."))
    parts.append(_("Done in about %(time)s.") % {"time": time_text(place.seconds)})
    return " ".join(parts)


def results_after(job: Job, cursor: str = "", *, limit: int = RESULTS_A_PAGE) -> Results:
    """Return the job's next results, with their files.

    A chunk is recorded while the job's row is locked, so what comes later in time also appears later.

    Raises:
        Invalid: the cursor is not one that this function gave out.
    """
    rows = Item.objects.filter(job=job, state=State.SUCCEEDED)
    if cursor:
        at, key = _read_cursor(cursor)
        rows = rows.filter(Q(completed_at__gt=at) | Q(completed_at=at, pk__gt=key))
    found = list(
        rows.select_related("input_file")
        .prefetch_related(delivered())
        .order_by("completed_at", "id")[: limit + 1]
    )
    shown = found[:limit]
    return Results(shown, _write_cursor(shown[-1]) if shown else cursor, len(found) > limit)


def delivered() -> "Prefetch[str, QuerySet[Output], str]":
    """Return what fetches items' results as `delivered`: files with their thumbnails, pictures first."""
    files = Prefetch("file", with_thumbnails(File.objects.all()))
    outputs = Output.objects.prefetch_related(files).order_by("file__kind", "label")
    return Prefetch("outputs", outputs, to_attr="delivered")


def failures_of(job: Job) -> list[Failures]:
    """Return what went wrong, the most frequent reason first."""
    if not job.failed:
        return []
    failed = Item.objects.filter(job=job, state=State.FAILED)
    groups = failed.values("error").annotate(n=Count("id")).order_by("-n", "error")[:MOST_REASONS]
    names: dict[str, list[str]] = {}
    for error, name in failed.order_by("position").values_list("error", "name")[:MOST_NAMES]:
        names.setdefault(error, []).append(name)
    return [Failures(g["error"], g["n"], tuple(names.get(g["error"], ()))) for g in groups]


def picture_of(item: Item) -> Output | None:
    """Return the picture among an item's results; None where it made none."""
    made: list[Output] = item.delivered  # type: ignore[attr-defined]  # by results_after
    return next((output for output in made if output.file.kind == FileKind.PICTURE), None)


def _write_cursor(item: Item) -> str:
    at = item.completed_at.isoformat() if item.completed_at else ""
    return f"{at}~{item.pk}"


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    at, _separator, key = cursor.partition("~")
    try:
        return datetime.fromisoformat(at), UUID(key)
    except ValueError as error:
        raise Invalid("This page address is damaged. Open the job again.", code="bad_cursor") from error
