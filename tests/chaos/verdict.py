"""Checks that must hold after recovery, whatever faults occurred."""

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from django.db import OperationalError, connection
from django.db.models import Count, F, Max, Q, Sum

from drive.files import quota
from drive.models import File
from drive.storage import blobs
from processing.job_queue.job_log import Kind
from processing.models import ENDED, OPEN, Item, Job, JobEvent, Lane, Memo, Output, State

ENDINGS = (Kind.FINISHED, Kind.CANCELED, Kind.DEADLINE)


def wait_for_end(seconds: float) -> bool:
    """Wait until no job is open, then until no wake-up is under way; False where a job stays open."""
    connection.close()
    if not _wait(lambda: not Job.objects.filter(state__in=OPEN).exists(), seconds):
        return False
    _wait(lambda: not Lane.objects.filter(outstanding__gt=0).exists(), 30)
    return True


def _wait(is_so: Any, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            if is_so():
                return True
        except OperationalError:
            connection.close()
        time.sleep(0.2)
    return False


def unfinished() -> list[str]:
    """Name the jobs that are still open, and the states of their items."""
    return [
        f"{job} is {job.state}: {_states(job)}, {job.options}"
        for job in Job.objects.filter(state__in=OPEN).order_by("id")
    ]


def _states(job: Job) -> dict[str, int]:
    rows = Item.objects.filter(job=job).values("state").annotate(n=Count("pk")).order_by()
    return {row["state"]: row["n"] for row in rows}


def problems(*, asked: int) -> list[str]:
    """Return what is wrong, a sentence each."""
    found = list(_wrong_jobs(asked))
    found += _wrong_items()
    found += _wrong_files()
    found += _wrong_memos()
    found += _wrong_logs()
    found += [
        f"lane {lane} still counts {lane.outstanding}" for lane in Lane.objects.filter(outstanding__gt=0)
    ]
    if wrong := quota.verify_usage():
        found.append(f"the usage of {wrong} drives was counted wrongly")
    return found


def _wrong_jobs(asked: int) -> Iterator[str]:
    jobs = list(Job.objects.order_by("id"))
    if len(jobs) != asked:
        yield f"{asked} jobs were asked for and {len(jobs)} were made"
    for job in jobs:
        states = _states(job)
        counted = {name: getattr(job, name) for name in ("succeeded", "failed", "canceled")}
        if {name: number for name, number in counted.items() if number} != states:
            yield f"{job} counts {counted}, its items are {states}"
        if sum(states.values()) != job.total:
            yield f"{job} has {sum(states.values())} items of {job.total}"
        if job.reused != Item.objects.filter(job=job, reused=True, state=State.SUCCEEDED).count():
            yield f"{job} counts {job.reused} reused"
        due = State.CANCELED if job.ending else State.SUCCEEDED if job.succeeded else State.FAILED
        if job.state != due or job.completed_at is None:
            yield f"{job} is {job.state}, ended {job.completed_at}, and should be {due}"


def _wrong_items() -> Iterator[str]:
    items = Item.objects.select_related("job").annotate(results=Count("outputs"))
    for item in items.exclude(state__in=ENDED):
        yield f"{item} is {item.state}"
    for item in items.filter(Q(lease_token__isnull=False) | Q(lease_expires_at__isnull=False)):
        yield f"{item} is {item.state} and has a lease"
    for item in items.filter(attempts__gt=3):
        yield f"{item} was tried {item.attempts} times"
    for item in items.filter(Q(state=State.SUCCEEDED) & (Q(results=0) | ~Q(error=""))):
        yield f"{item} succeeded with {item.results} results and the error {item.error!r}"
    for item in items.exclude(state=State.SUCCEEDED).filter(results__gt=0):
        yield f"{item} is {item.state} and has {item.results} results"
    for item in items.filter(Q(state=State.FAILED) & (Q(error="") | Q(error_code=""))):
        yield f"{item} failed without a reason"
    for item in items.filter(state=State.CANCELED).exclude(job__state=State.CANCELED):
        yield f"{item} was canceled and its job was not"
    kinds: dict[Any, set[int]] = defaultdict(set)
    for item in items.filter(state=State.SUCCEEDED):
        kinds[str(item.job.recipe["steps"][-1]["operation"])].add(item.results)
    yield from (
        f"{kind} has {sorted(numbers)} results" for kind, numbers in kinds.items() if len(numbers) > 1
    )


def _wrong_files() -> Iterator[str]:
    """Everything in a drive was uploaded, or is one result of one item, under its due name."""
    made = File.objects.annotate(makers=Count("made_by"))
    for file in made.filter(folder__isnull=False).exclude(makers=1):
        yield f"{file.name} in {file.folder} is the result of {file.makers} items"
    for file in made.filter(folder__isnull=True, makers__gt=0):
        yield f"the result {file.name} lies among the uploads"
    rows = Output.objects.select_related("item__job", "file")
    for output in rows.exclude(file__folder=F("item__job__output_folder")):
        yield f"{output} lies in another job's folder"
    for output in rows:
        if not output.file.name.startswith(output.item.output_stem + "."):
            yield f"{output} is called {output.file.name} and not {output.item.output_stem}"
    for digest in File.objects.values_list("blob", flat=True).distinct():
        if hashlib.sha256(blobs.read(digest)).hexdigest() != digest:
            yield f"the bytes {digest} are not what they were"


def _wrong_memos() -> Iterator[str]:
    """What is remembered is what was delivered, each time."""
    delivered: dict[Any, set[frozenset[str]]] = defaultdict(set)
    rows = Item.objects.filter(state=State.SUCCEEDED).exclude(memo_key="").prefetch_related("outputs__file")
    for item in rows.select_related("job"):
        digests = frozenset(output.file.blob_id for output in item.outputs.all())
        delivered[item.job.owner_id, item.memo_key].add(digests)
    memos = {
        (memo.owner_id, memo.key): frozenset(file["sha256"] for file in memo.files)
        for memo in Memo.objects.all()
    }
    for (_, key), results in delivered.items():
        if len(results) > 1:
            yield f"the same picture and settings gave {len(results)} different results ({key[:12]})"
    yield from (f"what was delivered is not remembered ({key[:12]})" for _, key in delivered.keys() - memos)
    yield from (
        f"something is remembered that was not delivered ({key[:12]})" for _, key in memos.keys() - delivered
    )
    for (owner, key), digests in memos.items():
        if delivered.get((owner, key), {digests}) != {digests}:
            yield f"what is remembered is not what was delivered ({key[:12]})"


def _wrong_logs() -> Iterator[str]:
    """Since it was last retried, each job has ended once."""
    for job in Job.objects.order_by("id"):
        lines = JobEvent.objects.filter(job=job)
        since = lines.filter(kind=Kind.RETRIED).aggregate(last=Max("id"))["last"] or 0
        ended = lines.filter(kind__in=ENDINGS, id__gt=since).count()
        if ended != 1:
            yield f"{job} ended {ended} times by its log"


def figures() -> dict[str, Counter[str]]:
    """Count jobs, items and what happened to them."""
    items = Item.objects.all()
    states = items.values("state").annotate(n=Count("pk")).order_by()
    failed = items.filter(state=State.FAILED).values("error_code").annotate(n=Count("pk")).order_by()
    jobs = Job.objects.values("state").annotate(n=Count("pk")).order_by()
    return {
        "jobs": Counter({row["state"]: row["n"] for row in jobs}),
        "items": Counter(
            {row["state"]: row["n"] for row in states}
            | {
                "reused": items.filter(reused=True).count(),
                "tried again": items.filter(attempts__gt=1).count(),
                "attempts": items.aggregate(n=Sum("attempts"))["n"] or 0,
            }
        ),
        "failures": Counter({row["error_code"]: row["n"] for row in failed}),
        "files": Counter({"results": Output.objects.count(), "remembered": Memo.objects.count()}),
    }
