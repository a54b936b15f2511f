"""Jobs on real worker processes."""

import signal
from collections.abc import Callable

import pytest

from accounts.models import User
from drive.models import File, FileState
from processing.fleet import registry
from processing.models import Lane
from tests.live import LiveWorker
from tests.processing.factories import submit
from tests.processing.wait_for_jobs import assert_each_result_once, fill, wait_for_end, wait_until

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]
StartWorker = Callable[..., LiveWorker]


def test_worker_checks_uploads_and_runs_jobs(user: User, celery_worker: StartWorker) -> None:
    celery_worker(slots=2)
    files = fill(user, 12)
    job = wait_for_end(submit(user, files), sweep=False)
    assert_each_result_once(job)
    unchecked = File.objects.filter(state=FileState.UPLOADED)
    wait_until(lambda: not unchecked.exists(), "some files are not checked yet")
    assert set(File.objects.filter(owner=user).values_list("state", flat=True)) == {FileState.READY}
    # The last wake-up may find nothing to do, but it arrives.
    idle = Lane.objects.filter(owner=user, outstanding=0)
    wait_until(idle.exists, "a wake-up is still pending")


def test_worker_signs_off_on_sigterm(user: User, celery_worker: StartWorker) -> None:
    worker = celery_worker()
    assert registry.slots_of("cpu") == 1
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(30)
    assert registry.slots_of("cpu") == 0
