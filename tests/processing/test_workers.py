"""Jobs on real worker processes, and what happens when one is killed."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from accounts.models import User
from drive.models import File, FileState
from processing import fleet, tasks
from processing.models import OPEN, Item, Job, Lane, Output, State
from tests.drive.drives import upload
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing.jobs import submit

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]
StartWorker = Callable[..., LiveWorker]


def wait_for_end(job: Job, *, seconds: float = 60, sweep: bool = True) -> Job:
    """Wait until a job has ended, sweeping as beat would."""
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
    raise AssertionError(f"The job is still {job.state}: {job.done} of {job.total}.")


def wait_for_running_item(job: Job) -> Item:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        item = Item.objects.filter(job=job, state=State.PROCESSING).first()
        if item is not None:
            return item
        time.sleep(0.005)
    raise AssertionError("No item was claimed.")


def assert_each_result_once(job: Job) -> None:
    """Counters equal rows, each item succeeded once, each result stands in the drive once."""
    states = Counter(Item.objects.filter(job=job).values_list("state", flat=True))
    assert states == {State.SUCCEEDED: job.total}
    assert (job.succeeded, job.failed, job.canceled) == (job.total, 0, 0)
    assert Output.objects.filter(item__job=job).count() == job.total
    names = list(File.objects.filter(folder=job.output_folder).values_list("name", flat=True))
    assert len(names) == len(set(names)) == job.total
    assert not any("(2)" in name for name in names)


def fill(user: User, number: int, *, side: int = 400) -> list[File]:
    return [
        upload(user, f"{n:03}.jpg", data=picture_bytes(width=side, height=side, seed=n))
        for n in range(number)
    ]


def test_uploads_are_checked_and_jobs_run_on_a_worker(user: User, celery_worker: StartWorker) -> None:
    celery_worker(slots=2)
    files = fill(user, 12)
    job = wait_for_end(submit(user, files), sweep=False)
    assert_each_result_once(job)
    ends = time.monotonic() + 20
    while File.objects.filter(state=FileState.UPLOADED).exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert set(File.objects.filter(owner=user).values_list("state", flat=True)) == {FileState.READY}
    assert Lane.objects.get(owner=user).outstanding == 0


def test_a_slot_killed_in_mid_job_loses_and_doubles_nothing(user: User, celery_worker: StartWorker) -> None:
    celery_worker(slots=2)
    files = fill(user, 30, side=2000)
    job = submit(user, files, app="mosaic")
    item = wait_for_running_item(job)
    assert item.slot is not None
    os.kill(item.slot, signal.SIGKILL)
    assert_each_result_once(wait_for_end(job))
    assert Item.objects.filter(job=job, attempts__gt=1).exists()


def test_a_whole_worker_killed_in_mid_job_is_replaced_by_another(
    user: User, celery_worker: StartWorker
) -> None:
    first = celery_worker(slots=2)
    files = fill(user, 30, side=2000)
    job = submit(user, files, app="mosaic")
    wait_for_running_item(job)
    first.kill()
    celery_worker(slots=2)
    assert_each_result_once(wait_for_end(job))


def test_a_wake_up_that_was_lost_is_sent_again(user: User, celery_worker: StartWorker) -> None:
    job = submit(user, fill(user, 2))
    from processing.broker import _broker

    _broker().delete("cpu")
    celery_worker()
    assert_each_result_once(wait_for_end(job, seconds=30))


def test_a_worker_signs_off_when_it_is_told_to_stop(user: User, celery_worker: StartWorker) -> None:
    worker = celery_worker()
    assert fleet.slots_of("cpu") == 1
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(30)
    assert fleet.slots_of("cpu") == 0
