"""Tests of workers that crash, freeze or stop: no work is lost or done twice."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from accounts.models import User
from drive.models import Blob, File
from drive.storage import blobs
from drive.storage import sweep as storage_sweep
from processing.models import Item, Job, Output, State
from tests.drive.factories import upload
from tests.faults import injected
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing import crashing_operation
from tests.processing.factories import submit
from tests.processing.wait_for_jobs import (
    assert_each_result_once,
    fill,
    wait_for_end,
    wait_for_running_item,
    wait_until,
)

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]
StartWorker = Callable[..., LiveWorker]


def poisoned(user: User, *widths: int, height: int = 40) -> Job:
    """Submit pictures that harm their worker, each in the way that its width says."""
    files = [
        upload(user, f"{n:02}.png", data=picture_bytes("PNG", width=width, height=height, seed=n))
        for n, width in enumerate(widths)
    ]
    job = submit(user, files)
    Job.objects.filter(pk=job.pk).update(recipe=crashing_operation.RECIPE)
    job.refresh_from_db()
    return job


# --- Killed.


def test_a_slot_killed_in_mid_job_loses_and_doubles_nothing(user: User, celery_worker: StartWorker) -> None:
    celery_worker(slots=2)
    job = submit(user, fill(user, 24, side=1200), app="mosaic")
    item = wait_for_running_item(job)
    assert item.slot is not None
    os.kill(item.slot, signal.SIGKILL)
    assert_each_result_once(wait_for_end(job))
    assert Item.objects.filter(job=job, attempts__gt=1).exists()


@pytest.mark.parametrize("whole", [True, False], ids=["with its slots", "main process alone"])
def test_a_worker_killed_in_mid_job_is_replaced_by_another(
    user: User, celery_worker: StartWorker, whole: bool
) -> None:
    first = celery_worker(slots=2)
    job = submit(user, fill(user, 24, side=1200), app="mosaic")
    wait_for_running_item(job)
    if whole:
        first.kill()
    else:
        # Its slots live on for a while, and may still finish what they hold.
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    celery_worker(slots=2)
    assert_each_result_once(wait_for_end(job))


def test_a_picture_that_harms_its_worker_fails_alone(
    user: User, celery_worker: StartWorker, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    harmful = [
        crashing_operation.KILLS,
        crashing_operation.EATS,
        crashing_operation.HANGS,
        crashing_operation.BREAKS,
    ]
    job = poisoned(user, crashing_operation.WELL, *harmful, *[crashing_operation.WELL] * 5)
    celery_worker(
        slots=1,
        include="tests.processing.worker_with_crashing_operation",
        IPAU_ITEM_SECONDS="3",
        **{crashing_operation.LOG: str(ran)},
    )
    job = wait_for_end(job)
    failed = Item.objects.filter(job=job, state=State.FAILED).order_by("position")
    assert list(failed.values_list("position", "error_code")) == [
        (1, "worker_lost"),
        (2, "memory"),
        (3, "too_slow"),
        (4, "internal"),
    ]
    assert (job.state, job.succeeded, job.failed) == (State.SUCCEEDED, 6, 4)
    assert all(item.error for item in failed)
    times = Counter(int(width) for width in ran.read_text().split())
    assert times[crashing_operation.KILLS] == 3
    assert [times[width] for width in harmful[1:]] == [1, 1, 1]
    # What was claimed together with the one that kills may have been computed and lost once.
    assert times[crashing_operation.WELL] <= 12


# --- Standing still.


def test_a_worker_that_stood_still_past_its_lease_comes_too_late(
    user: User, celery_worker: StartWorker, faulty_worker: StartWorker
) -> None:
    """It had computed the picture, stored its bytes, and was about to record that."""
    before = stray_bytes()
    late = faulty_worker(injected.STOP_BEFORE_FINISH)
    job = poisoned(user, crashing_operation.VARIES)
    wait_until(lambda: is_stopped(late.process.pid), "the worker still runs")
    stored = stray_bytes() - before
    assert len(stored) == 2  # the result, and its thumbnail
    other = celery_worker(include="tests.processing.worker_with_crashing_operation")
    assert_each_result_once(wait_for_end(job))
    other.kill()
    os.killpg(late.process.pid, signal.SIGCONT)
    wait_for_end(poisoned(user, crashing_operation.WELL))  # by the late one, after what it was stopped at
    job.refresh_from_db()
    assert_each_result_once(job)
    item = Item.objects.get(job=job)
    assert (item.worker, item.attempts) == (other.name, 2)
    assert stray_bytes() - before == stored
    sweep(stored)
    assert not any(path.exists() for path in stored)
    assert all(blobs.read(file.blob_id) for file in File.objects.filter(owner=user))


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def stray_bytes() -> set[Path]:
    """Return the files of the storage that no row knows."""
    root = settings.DATA_DIR / "blobs"
    known = set(Blob.objects.values_list("pk", flat=True))
    return {path for path in root.rglob("*") if path.is_file() and path.name not in known}


def sweep(stored: set[Path]) -> None:
    """Sweep the storage as if these had been written long ago."""
    written = time.time() - 2 * blobs.GRACE.total_seconds()
    for path in stored:
        os.utime(path, (written, written))
        storage_sweep.adopt_strays(path.name[:2])
    storage_sweep.sweep_orphans()


def test_a_turn_beyond_the_visibility_timeout_is_sent_twice_and_runs_once(
    user: User, faulty_worker: StartWorker, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    worker = faulty_worker(injected.SHORT_VISIBILITY, slots=2, **{crashing_operation.LOG: str(ran)})
    job = wait_for_end(poisoned(user, crashing_operation.SLOW, crashing_operation.SLOW), sweep=False)
    assert_each_result_once(job)
    assert ran.read_text().split() == [str(crashing_operation.SLOW)] * 2
    assert not Item.objects.filter(job=job, attempts__gt=1).exists()
    received = Counter(re.findall(r"processing\.turn\[(\S+)\] received", worker.log.read_text()))
    assert max(received.values()) > 1  # or nothing has been tried here


# --- Told to stop.


def test_a_worker_that_is_told_to_stop_finishes_or_hands_back(user: User, celery_worker: StartWorker) -> None:
    worker = celery_worker(slots=2, include="tests.processing.worker_with_crashing_operation")
    # More than two slots do in the turns that they are at.
    job = poisoned(user, *[crashing_operation.DOZES] * 24)
    wait_for_running_item(job)
    begun = time.monotonic()
    os.kill(worker.process.pid, signal.SIGTERM)
    worker.process.wait(30)
    assert time.monotonic() - begun < 15
    job.refresh_from_db()
    assert job.state == State.PROCESSING
    assert not Item.objects.filter(job=job, state=State.PROCESSING).exists()
    celery_worker(slots=2, include="tests.processing.worker_with_crashing_operation")
    assert_each_result_once(wait_for_end(job))
    assert not Item.objects.filter(job=job, attempts__gt=1).exists()


# --- Without room.


def test_results_for_which_there_is_no_room_fail_with_a_reason_and_leave_nothing(
    user: User, faulty_worker: StartWorker
) -> None:
    before = stray_bytes()
    small = poisoned(user, crashing_operation.VARIES, crashing_operation.WELL)
    large = poisoned(user, crashing_operation.VARIES, height=2000)
    worker = faulty_worker(injected.NO_ROOM)
    assert_each_result_once(wait_for_end(small))
    large = wait_for_end(large)
    item = Item.objects.get(job=large)
    assert (large.state, item.state, item.error_code, item.attempts) == ("failed", "failed", "storage", 3)
    assert "storage" in item.error
    assert not Output.objects.filter(item=item).exists()
    assert worker.process.poll() is None
    # At most the thumbnail, whole, for the sweep to delete.
    assert [path for path in stray_bytes() - before if path.name.startswith(".")] == []
    assert len(stray_bytes() - before) <= item.attempts
