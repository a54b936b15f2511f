"""Progress of a job: time left, position in the queue, results and failures."""

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
# Before that, the pace is no basis for an estimate.
SECONDS_TO_JUDGE = 1.5


@dataclass(frozen=True)
class Failures:
    """Images that failed for one reason. `names` may list only some of them."""

    reason: str
    number: int
    names: tuple[str, ...]

    @property
    def more(self) -> int:
        return self.number - len(self.names)


@dataclass(frozen=True)
class Results:
    """Results in order of arrival. `cursor` points after the last one."""

    items: Sequence[Item]
    cursor: str
    more: bool


def seconds_left(job: Job) -> float | None:
    """Return the estimated seconds until a job ends, or None before there is a pace."""
    if not job.is_open or job.started_at is None or not job.done:
        return None
    spent = (timezone.now() - job.started_at).total_seconds()
    return spent * (job.total - job.done) / job.done if spent >= SECONDS_TO_JUDGE else None


def time_text(seconds: float) -> str:
    """Return a duration as text: «40 s», «3 min», «2 h 5 min»."""
    whole = max(1, round(seconds))
    if whole < 100:
        return _("%(n)d s") % {"n": whole}
    minutes = round(whole / 60)
    if minutes < 100:
        return _("%(n)d min") % {"n": minutes}
    return _("%(h)d h %(m)d min") % {"h": minutes // 60, "m": minutes % 60}


@dataclass(frozen=True)
class QueuePosition:
    """Position of a job in its queue.

    Args:
        before: images of the same owner that run first.
        others: other owners with work in the queue, who take turns with this one.
        seconds: until the last image of the job; None if no worker serves the queue.
    """

    before: int
    others: int
    seconds: float | None


def place_of(job: Job) -> QueuePosition:
    """Estimate when an open job ends, from the way owners share a queue.

    Owners take turns: this one gets at least an equal share of the slots, and all of them when the others are
    done.
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
    """Return the number of images of its owner that run before a job, and of other owners in the queue.

    Two queries.
    """
    waiting = Job.objects.open().filter(queue=job.queue)
    earlier = waiting.filter(owner=job.owner_id, pk__lt=job.pk)
    before: int = earlier.aggregate(n=Sum(estimates.LEFT, default=0))["n"]
    return before, waiting.exclude(owner=job.owner_id).values("owner").distinct().count()


def waiting_text(job: Job) -> str:
    """Return why a job waits and when it will end, or an empty text if it has started."""
    if job.state != State.STARTING:
        return ""
    place = place_of(job)
    if place.seconds is None:
        return _("No worker serves this queue right now. The job starts when one connects.")
    parts = []
    if place.before:
        text = ngettext("%(n)s image of yours runs first.", "%(n)s images of yours run first.", place.before)
        parts.append(text % {"n": f"{place.before:,}"})
    if place.others:
        text = ngettext(
            "You share the queue with %(n)s other account.",
            "You share the queue with %(n)s other accounts.",
            place.others,
        )
        parts.append(text % {"n": place.others})
    if not parts:
        parts.append(_("It starts as soon as a worker is free."))
    parts.append(_("Done in about %(time)s.") % {"time": time_text(place.seconds)})
    return " ".join(parts)


def results_after(job: Job, cursor: str = "", *, limit: int = RESULTS_A_PAGE) -> Results:
    """Return the next results of a job, with their files.

    Chunks are recorded while the row of the job is locked, so later results also appear later.

    Raises:
        Invalid: the cursor is malformed.
    """
    rows = Item.objects.filter(job=job, state=State.SUCCEEDED)
    if cursor:
        at, key = _read_cursor(cursor)
        rows = rows.filter(Q(completed_at__gt=at) | Q(completed_at=at, pk__gt=key))
    rows_and_next = list(
        rows.select_related("input_file")
        .prefetch_related(delivered())
        .order_by("completed_at", "id")[: limit + 1]
    )
    shown = rows_and_next[:limit]
    return Results(shown, _write_cursor(shown[-1]) if shown else cursor, len(rows_and_next) > limit)


def delivered() -> "Prefetch[str, QuerySet[Output], str]":
    """Return a Prefetch of item results as `delivered`: files with thumbnails, images first."""
    files = Prefetch("file", with_thumbnails(File.objects.all()))
    outputs = Output.objects.prefetch_related(files).order_by("file__kind", "label")
    return Prefetch("outputs", outputs, to_attr="delivered")


def failures_of(job: Job) -> list[Failures]:
    """Return the failures of a job by reason, most frequent first."""
    if not job.failed:
        return []
    failed = Item.objects.filter(job=job, state=State.FAILED)
    groups = failed.values("error").annotate(n=Count("id")).order_by("-n", "error")[:MOST_REASONS]
    names: dict[str, list[str]] = {}
    for error, name in failed.order_by("position").values_list("error", "name")[:MOST_NAMES]:
        names.setdefault(error, []).append(name)
    return [Failures(g["error"], g["n"], tuple(names.get(g["error"], ()))) for g in groups]


def picture_of(item: Item) -> Output | None:
    """Return the image among the results of an item, or None."""
    outputs: list[Output] = item.delivered  # type: ignore[attr-defined]  # by results_after
    return next((output for output in outputs if output.file.kind == FileKind.PICTURE), None)


def _write_cursor(item: Item) -> str:
    at = item.completed_at.isoformat() if item.completed_at else ""
    return f"{at}~{item.pk}"


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    at, _separator, key = cursor.partition("~")
    try:
        return datetime.fromisoformat(at), UUID(key)
    except ValueError as error:
        raise Invalid("This page address is incomplete. Open the job again.", code="bad_cursor") from error
