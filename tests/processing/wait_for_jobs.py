"""Helpers to wait for jobs on real workers, and to check that no result is lost or duplicate."""

import time
from collections import Counter
from collections.abc import Callable

from django.db import connection

from accounts.models import User
from drive.models import File
from processing.execution import tasks
from processing.models import OPEN, Item, Job, Output, State
from tests.drive.factories import upload
from tests.pictures import picture_bytes


def fill(user: User, number: int, *, side: int = 400) -> list[File]:
    return [
        upload(user, f"{n:03}.jpg", data=picture_bytes(width=side, height=side, seed=n))
        for n in range(number)
    ]


def wait_until(found: Callable[[], object], what: str, *, seconds: float = 30) -> None:
    """Wait until `found()` is true. On timeout, the error says `what` is wrong."""
    ends = time.monotonic() + seconds
    while not found():
        if time.monotonic() > ends:
            raise AssertionError(f"After {seconds} s: {what}.")
        time.sleep(0.02)


def wait_for_end(job: Job, *, seconds: float = 60, sweep: bool = True) -> Job:
    """Wait until a job has ended, with a sweep every second as Celery beat would send it."""
    ends = time.monotonic() + seconds
    swept = 0.0
    while time.monotonic() < ends:
        job.refresh_from_db()
        if job.state not in OPEN:
            return job
        if sweep and time.monotonic() - swept > 1:
            swept = time.monotonic()
            tasks.sweep()
        time.sleep(0.05)
    held = Item.objects.filter(job=job, state=State.PROCESSING).values("worker", "slot", "attempts")
    raise AssertionError(f"The job is still {job.state}: {job.done} of {job.total}. Held: {list(held)}")


def wait_for_running_item(job: Job) -> Item:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        item = Item.objects.filter(job=job, state=State.PROCESSING).first()
        if item is not None:
            return item
        time.sleep(0.005)
    raise AssertionError("No item was claimed.")


def assert_each_result_once(job: Job) -> None:
    """Check that counters equal rows, each item succeeded once, and each result is in the drive once."""
    states = Counter(Item.objects.filter(job=job).values_list("state", flat=True))
    assert states == {State.SUCCEEDED: job.total}
    assert (job.succeeded, job.failed, job.canceled) == (job.total, 0, 0)
    assert Output.objects.filter(item__job=job).count() == job.total
    names = list(File.objects.filter(folder=job.output_folder).values_list("name", flat=True))
    assert len(names) == len(set(names)) == job.total
    assert not any("(2)" in name for name in names)


def connections_there() -> set[int]:
    """Return the pids of PostgreSQL backends that serve the test database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        return {pid for (pid,) in cursor.fetchall()}
