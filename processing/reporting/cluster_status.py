"""Status of the cluster: workers, queues and utilization, and draining of workers."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, F, FloatField, Q, Sum
from django.db.models.functions import Cast, Now, TruncMinute
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from accounts.models import User
from ipau.common.errors import Forbidden, NotFound
from processing.fleet import registry
from processing.models import OPEN, Drain, FleetSample, Item, Job, State, Worker
from processing.reporting import estimates

# The pace counts images delivered in this time.
PACE_WINDOW = timedelta(minutes=5)
SHOWN_MINUTES = 60
# In the order of the page.
QUEUES = ("cpu", "gpu", "preview", "background", "convert")
JOB_QUEUES = ("cpu", "gpu")
# Every site needs these. Without a worker, parts of the site stop although no job waits.
NEEDED = ("preview", "background", "convert")
ABOUT: dict[str, str | Promise] = {
    "cpu": gettext_lazy("Jobs"),
    "gpu": gettext_lazy("Jobs of models, on workers with a GPU"),
    "preview": gettext_lazy("Previews"),
    "background": gettext_lazy("Checks of uploads, e-mails, webhooks, and sweeps"),
    "convert": gettext_lazy("Conversions of weights, and trials of models"),
}


@dataclass(frozen=True)
class WorkerStatus:
    """Current status of a worker. `pace`: images per minute. `age`: seconds since its last heartbeat."""

    worker: Worker
    busy: int
    pace: float
    age: float
    draining: bool
    jobs: Sequence[Job]

    @property
    def alive(self) -> bool:
        return self.age < registry.DEAD_AFTER.total_seconds()


@dataclass(frozen=True)
class QueueStatus:
    """Current status of a queue: slots, waiting images, estimated seconds until it is empty."""

    name: str
    slots: int
    waiting: int
    jobs: int
    seconds: float | None

    @property
    def served(self) -> bool:
        return self.slots > 0

    @property
    def about(self) -> str:
        """The kind of work in this queue."""
        return str(ABOUT[self.name])


@dataclass(frozen=True)
class Minute:
    """Share of busy slots of the cluster in one minute, 0 to 1."""

    at: datetime
    share: float

    @property
    def percent(self) -> int:
        return round(100 * self.share)


def workers_now() -> list[WorkerStatus]:
    """Return the status of every worker with a heartbeat in the last hour, in six queries."""
    workers = list(Worker.objects.annotate(silent=Now() - F("heartbeat_at")).order_by("name"))
    drained = set(Drain.objects.values_list("worker", flat=True))
    since = timezone.now() - PACE_WINDOW
    delivered = _delivered(since)
    held = Item.objects.filter(state=State.PROCESSING)
    jobs = _jobs_by_worker(held)
    busy = _busy()
    minutes = PACE_WINDOW.total_seconds() / 60
    return [
        WorkerStatus(
            worker=worker,
            busy=busy.get(worker.name, 0),
            pace=delivered.get(worker.name, 0) / minutes,
            age=max(0.0, worker.silent.total_seconds()),
            draining=worker.name in drained,
            jobs=jobs.get(worker.name, ()),
        )
        for worker in workers
    ]


def queues_now() -> list[QueueStatus]:
    """Return the status of queues that are served, that have waiting images, or that every site needs."""
    slots = registry.served_queues()
    rows = Job.objects.open().values("queue").annotate(n=Sum(estimates.LEFT), jobs=Count("id")).order_by()
    held = dict(
        Item.objects.filter(state=State.PROCESSING)
        .values_list("job__queue")
        .annotate(n=Count("id"))
        .order_by()
    )
    waiting = {row["queue"]: (row["n"] - held.get(row["queue"], 0), row["jobs"]) for row in rows}
    lines = []
    for name in QUEUES:
        number, jobs = waiting.get(name, (0, 0))
        served = slots.get(name, 0)
        if not served and not number and name not in NEEDED:
            continue
        seconds = None
        if served and name in JOB_QUEUES:
            seconds = estimates.backlog_seconds(name) / served if number else 0.0
        lines.append(QueueStatus(name, served, number, jobs, seconds))
    return lines


def utilization(*, minutes: int = SHOWN_MINUTES) -> list[Minute]:
    """Return the share of busy slots by minute, without minutes that have no heartbeat."""
    since = timezone.now() - timedelta(minutes=minutes)
    by_worker = (
        FleetSample.objects.filter(at__gte=since)
        .annotate(minute=TruncMinute("at"))
        .values("minute", "worker")
        .annotate(
            busy=Avg(Cast("busy", FloatField())),
            slots=Avg(Cast("slots", FloatField())),
        )
    )
    busy: dict[datetime, float] = defaultdict(float)
    slots: dict[datetime, float] = defaultdict(float)
    for row in by_worker.order_by("minute"):
        busy[row["minute"]] += row["busy"]
        slots[row["minute"]] += row["slots"]
    return [Minute(at, busy[at] / slots[at] if slots[at] else 0.0) for at in sorted(slots)]


def totals() -> dict[str, int]:
    """Return the number of images by outcome, over all jobs."""
    sums = Job.objects.aggregate(
        succeeded=Sum("succeeded", default=0),
        failed=Sum("failed", default=0),
        reused=Sum("reused", default=0),
    )
    return {name: int(number) for name, number in sums.items()}


def drain_worker(*, operator: User, name: str) -> None:
    """Drain a worker: it finishes its current work and takes no new work. Idempotent.

    Raises:
        Forbidden: the account is not an operator.
        NotFound: no worker has this name.
    """
    _check(operator, name)
    Drain.objects.get_or_create(worker=name, defaults={"by": operator})


def resume_worker(*, operator: User, name: str) -> None:
    """Resume a drained worker. Raises the errors of `drain_worker`."""
    _check(operator, name)
    Drain.objects.filter(worker=name).delete()


def is_operator(person: Any) -> bool:
    """Return whether an account is an operator: staff with the permission to change workers."""
    return bool(person.is_authenticated and person.is_staff and person.has_perm("processing.change_worker"))


def _delivered(since: datetime) -> dict[str, int]:
    """Return the images delivered by worker since then. Only jobs that can contain any are read."""
    recent = Job.objects.filter(Q(state__in=OPEN) | Q(completed_at__gte=since))
    rows = Item.objects.filter(
        job__in=recent.values("pk"), completed_at__gte=since, state=State.SUCCEEDED, reused=False
    )
    return dict(rows.values_list("worker").annotate(n=Count("id")).order_by())


def _busy() -> dict[str, int]:
    """Return the number of busy slots by worker, as of its last heartbeat."""
    newest = FleetSample.objects.order_by("worker", "-at").distinct("worker")
    return dict(newest.values_list("worker", "busy"))


def _jobs_by_worker(held: Any) -> dict[str, list[Job]]:
    pairs = list(held.values_list("worker", "job").distinct())
    rows = Job.objects.filter(pk__in={job for _, job in pairs})
    jobs = rows.select_related("owner", "version__listing").in_bulk()
    jobs_by_worker: dict[str, list[Job]] = defaultdict(list)
    for worker, job in pairs:
        if job in jobs:
            jobs_by_worker[worker].append(jobs[job])
    return jobs_by_worker


def _check(operator: User, name: str) -> None:
    if not is_operator(operator):
        raise Forbidden("You don't have permission to drain or resume workers. Ask an operator.")
    if not Worker.objects.filter(name=name).exists():
        raise NotFound("This worker does not exist.")
