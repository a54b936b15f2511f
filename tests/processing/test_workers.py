"""Jobs on real worker processes."""

import signal
import time
from collections.abc import Callable

import pytest

from accounts.models import User
from drive.models import File, FileState
from processing import fleet
from processing.models import Lane
from tests.live import LiveWorker
from tests.processing.jobs import submit
from tests.processing.running import assert_each_result_once, fill, wait_for_end

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]
StartWorker = Callable[..., LiveWorker]


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


def test_a_worker_signs_off_when_it_is_told_to_stop(user: User, celery_worker: StartWorker) -> None:
    worker = celery_worker()
    assert fleet.slots_of("cpu") == 1
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(30)
    assert fleet.slots_of("cpu") == 0
