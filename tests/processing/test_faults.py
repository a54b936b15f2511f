"""Pictures and machines that do harm: nothing is lost, nothing is done twice, nobody else is hurt."""

import os
import signal
import time
from collections.abc import Callable

import pytest
import redis
from django.conf import settings
from django.db import connection

from accounts.models import User
from ipau.common.tasks import wake
from processing import tasks
from processing.models import OPEN, Item, Job, State
from tests.drive.drives import upload
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing import poison
from tests.processing.jobs import submit
from tests.processing.test_workers import (
    assert_each_result_once,
    fill,
    wait_for_end,
    wait_for_running_item,
)

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]
StartWorker = Callable[..., LiveWorker]


def test_a_picture_that_harms_its_worker_fails_alone(user: User, celery_worker: StartWorker) -> None:
    widths = [poison.WELL, poison.KILLS, poison.EATS, poison.HANGS, poison.BREAKS, *[poison.WELL] * 5]
    files = [
        upload(user, f"{n:02}.png", data=picture_bytes("PNG", width=width, height=40, seed=n))
        for n, width in enumerate(widths)
    ]
    job = submit(user, files)
    Job.objects.filter(pk=job.pk).update(recipe=poison.RECIPE)
    celery_worker(slots=1, include="tests.processing.poison", IPAU_ITEM_SECONDS="3")
    job = wait_for_end(job)
    failed = Item.objects.filter(job=job, state=State.FAILED).order_by("position")
    assert list(failed.values_list("position", "error_code")) == [
        (1, "worker_lost"),
        (2, "memory"),
        (3, "too_slow"),
        (4, "internal"),
    ]
    assert (job.state, job.succeeded, job.failed) == (State.SUCCEEDED, 6, 4)
    assert failed[0].attempts == 3
    assert all(item.error for item in failed)


def test_flushed_messages_and_cut_connections_cost_nothing(user: User, celery_worker: StartWorker) -> None:
    worker = celery_worker(slots=2)
    wake(tasks.sweep)  # so that this process has told the broker of its queues before they are gone
    job = submit(user, fill(user, 40, side=1200), app="mosaic")
    wait_for_running_item(job)
    redis.Redis.from_url(settings.REDIS_URL).flushall()
    time.sleep(0.3)
    cut = 0
    ends = time.monotonic() + 40
    while time.monotonic() < ends and Job.objects.filter(pk=job.pk, state__in=OPEN).exists():
        wake(tasks.sweep)
        if cut < 5:
            cut_connections()
            cut += 1
        time.sleep(0.5)
    job.refresh_from_db()
    assert_each_result_once(job)
    assert worker.process.poll() is None


def cut_connections() -> None:
    """End all connections to the database but this one, whatever they are in the middle of."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_worker_that_is_told_to_stop_finishes_or_hands_back(user: User, celery_worker: StartWorker) -> None:
    worker = celery_worker(slots=2)
    job = submit(user, fill(user, 20, side=1200), app="mosaic")
    wait_for_running_item(job)
    begun = time.monotonic()
    os.kill(worker.process.pid, signal.SIGTERM)
    worker.process.wait(30)
    assert time.monotonic() - begun < 15
    job.refresh_from_db()
    assert job.state == State.PROCESSING
    assert not Item.objects.filter(job=job, state=State.PROCESSING).exists()
    celery_worker(slots=2)
    assert_each_result_once(wait_for_end(job))
    assert not Item.objects.filter(job=job, attempts__gt=1).exists()
