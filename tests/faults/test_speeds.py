"""Tests of measured model speeds: they stay correct when workers or the database fail."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from accounts.models import User
from market.models import JobSpeed, Version
from market.weights.install import install_model
from processing.models import Item, Job
from tests.faults import injected
from tests.live import LiveWorker
from tests.processing.factories import FRESH, submit_version
from tests.processing.wait_for_jobs import assert_each_result_once, fill, wait_for_end, wait_for_running_item
from tests.workers.families import rebuilt
from workers import devices

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]
StartWorker = Callable[..., LiveWorker]


@pytest.fixture
def version(user: User, tmp_path: Path) -> Version:
    """A version of an enlarger that ONNX Runtime runs."""
    folder = tmp_path / "model"
    folder.mkdir()
    rebuilt.convert("compact", folder)
    return install_model(
        owner=user, folder=folder, name="compact", title="Compact", summary="", description=""
    )


def assert_each_picture_counts_once(job: Job) -> None:
    assert_each_result_once(job)
    spent = [timings["run"] for timings in Item.objects.filter(job=job).values_list("timings", flat=True)]
    row = JobSpeed.objects.get()
    assert (row.device, row.pictures) == (devices.processor().name, job.total)
    assert row.run_ms == pytest.approx(sum(spent))


@pytest.mark.parametrize("fault", [injected.CUT_IN_FINISH, injected.CUT_AFTER_FINISH])
def test_a_connection_cut_in_or_after_a_finish_counts_each_picture_once(
    user: User, version: Version, faulty_worker: StartWorker, fault: str
) -> None:
    worker = faulty_worker(fault, slots=2)
    job = submit_version(user, version, fill(user, 12, side=96), terms=FRESH)
    assert_each_picture_counts_once(wait_for_end(job, sweep=False))
    assert "The database connection failed; retrying in" in worker.log.read_text()


def test_a_slot_killed_in_mid_job_counts_each_picture_once(
    user: User, version: Version, celery_worker: StartWorker
) -> None:
    celery_worker(slots=2)
    job = submit_version(user, version, fill(user, 24, side=256), terms=FRESH)
    item = wait_for_running_item(job)
    assert item.slot is not None
    os.kill(item.slot, signal.SIGKILL)
    assert_each_picture_counts_once(wait_for_end(job))
