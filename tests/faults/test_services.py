"""Tests of Valkey and PostgreSQL that crash, lose data, freeze or disconnect: work continues, once."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.models import User
from ipau.common.tasks import wake
from processing.execution import tasks
from processing.fleet import broker
from processing.models import OPEN, Item, Job, State
from tests.faults import injected
from tests.faults.services import OwnServer
from tests.live import ROOT, LiveWorker
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


def running_job(user: User, pictures: int = 30) -> Job:
    """Return a job that workers have begun and will not have ended soon."""
    job = submit(user, fill(user, pictures, side=1200), app="mosaic")
    wait_for_running_item(job)
    return job


def is_open(job: Job) -> bool:
    return Job.objects.filter(pk=job.pk, state__in=OPEN).exists()


# --- The broker.


def test_a_broker_that_dies_and_forgets_everything_costs_nothing(
    user: User, other_user: User, valkey: OwnServer, celery_worker: StartWorker
) -> None:
    worker = celery_worker(slots=2, **valkey.env)
    job = running_job(user)
    valkey.kill()
    # No worker can be woken meanwhile, and submitting still succeeds.
    late = submit(other_user, fill(other_user, 2))
    assert not wake(tasks.sweep)
    valkey.start()
    assert broker.depth("cpu") == 0
    assert is_open(job)
    assert_each_result_once(wait_for_end(job))
    assert_each_result_once(wait_for_end(late))
    assert worker.process.poll() is None


def test_flushed_messages_cost_nothing(user: User, valkey: OwnServer, celery_worker: StartWorker) -> None:
    worker = celery_worker(slots=2, **valkey.env)
    wake(tasks.sweep)  # so that this process has told the broker of its queues before they are gone
    job = running_job(user)
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    assert is_open(job)
    assert_each_result_once(wait_for_end(job))
    assert worker.process.poll() is None


def test_a_broker_that_stands_still_holds_work_up_and_costs_nothing(
    user: User, valkey: OwnServer, celery_worker: StartWorker
) -> None:
    """For 3 s here, 20 s in the long run of `make chaos`."""
    worker = celery_worker(slots=2, **valkey.env)
    job = running_job(user)
    valkey.freeze()
    try:
        time.sleep(3)
        assert is_open(job)
    finally:
        valkey.thaw()
    assert_each_result_once(wait_for_end(job))
    assert worker.process.poll() is None


def test_wake_ups_that_were_lost_are_sent_again(
    user: User, valkey: OwnServer, celery_worker: StartWorker
) -> None:
    job = submit(user, fill(user, 2))
    redis.Redis.from_url(settings.REDIS_URL).delete("cpu")
    celery_worker(**valkey.env)
    assert_each_result_once(wait_for_end(job, seconds=30))


SUBMIT_AND_DIE = """
import os, signal, sys
import django
django.setup()
from django.db import transaction
from accounts.models import User
from drive.models import File
from tests.processing.factories import submit
owner = User.objects.get(pk=sys.argv[1])
with transaction.atomic():
    # Before that of the submission, which sends the wake-ups.
    transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    submit(owner, File.objects.filter(owner=owner))
"""


def test_a_web_process_that_dies_after_its_commit_has_its_wake_ups_sent_by_the_sweep(
    user: User, valkey: OwnServer, celery_worker: StartWorker, process_env: dict[str, str], tmp_path: Path
) -> None:
    celery_worker(**valkey.env)
    fill(user, 2)
    env = {**process_env, **valkey.env}
    command = [sys.executable, "-W", "ignore", "-c", SUBMIT_AND_DIE, str(user.pk)]
    died = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    job = Job.objects.get(owner=user)
    with beat(env, tmp_path):
        begun = timezone.now()
        assert_each_result_once(wait_for_end(job, sweep=False))
    assert job.started_at is not None
    assert (job.started_at - begun).total_seconds() < 20


@contextmanager
def beat(env: dict[str, str], folder: Path) -> Iterator[None]:
    """Run the schedule of a site; it has begun."""
    command = [sys.executable, "-m", "celery", "-A", "ipau", "beat", "-s", str(folder / "beat"), "-l", "INFO"]
    log = folder / "beat.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=stream, stderr=stream)
        try:
            # Python and Django take their time on a busy machine.
            wait_until(lambda: "beat: Starting" in log.read_text(), "no schedule runs")
            yield
        finally:
            process.terminate()
            process.wait(30)


# --- The database.


def test_a_database_that_stands_still_and_is_restarted_costs_nothing(
    user: User, postgres: OwnServer, celery_worker: StartWorker
) -> None:
    """For 3 s and 2 s here, 20 s in the long run of `make chaos`."""
    worker = celery_worker(slots=2, **postgres.env)
    job = running_job(user, 40)
    postgres.freeze()
    time.sleep(3)
    postgres.thaw()
    assert is_open(job)
    wait_for_running_item(job)
    postgres.stop()
    time.sleep(2)
    postgres.start()
    connection.close()
    assert is_open(job)
    assert_each_result_once(wait_for_end(job))
    assert worker.process.poll() is None


def test_connections_that_are_cut_again_and_again_cost_nothing(
    user: User, celery_worker: StartWorker
) -> None:
    worker = celery_worker(slots=2)
    job = running_job(user)
    for _ in range(5):
        cut_connections()
        tasks.sweep()
        time.sleep(0.5)
    assert_each_result_once(wait_for_end(job))
    assert worker.process.poll() is None


def cut_connections() -> None:
    """End all connections to the database but this one, whatever they are in the middle of."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize("fault", [injected.CUT_IN_FINISH, injected.CUT_AFTER_FINISH])
def test_a_connection_cut_in_or_after_a_finish_has_one_outcome(
    user: User, faulty_worker: StartWorker, fault: str
) -> None:
    worker = faulty_worker(fault, slots=2)
    job = wait_for_end(submit(user, fill(user, 12)), sweep=False)
    assert_each_result_once(job)
    assert not Item.objects.filter(job=job, attempts__gt=1).exists()
    assert "The database connection failed; retrying in" in worker.log.read_text()
    # Those that were counted twice would have been reused, or stand for two.
    assert job.state == State.SUCCEEDED
    assert job.reused == 0
