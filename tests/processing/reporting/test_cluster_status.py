"""Cluster page, draining, metrics, and checks of the configuration of workers."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.conf import settings
from django.contrib.auth.models import Permission
from django.test import Client, override_settings
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from processing.fleet import registry
from processing.models import Drain, FleetSample, Item, Job, State, Worker
from processing.reporting import cluster_status
from processing.worker import startup_checks
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.processing.factories import submit

ROOT = Path(__file__).resolve().parents[3]


def beat(name: str = "w@here", **changes: Any) -> None:
    values: dict[str, Any] = {
        "queues": ["cpu"],
        "device": "cpu",
        "pids": [1, 2],
        "started_at": timezone.now(),
    }
    registry.record_heartbeat(name=name, **{**values, **changes})


def html(answer: Any) -> str:
    return str(answer.content.decode())


def operator(user: User) -> User:
    user.is_staff = True
    user.save()
    user.user_permissions.add(Permission.objects.get(codename="change_worker"))
    return User.objects.get(pk=user.pk)


# --- The page.


@pytest.mark.django_db
def test_workers_queues_and_utilization_are_shown(user: User, client_of: Callable[[User], Client]) -> None:
    # The first page of a process is slow. After it, a test worker would already be silent.
    client_of(user).get("/cluster/")
    beat(busy=1, machine={"name": "Xeon", "memory": 2**34})
    beat("gone@there")
    Worker.objects.filter(name="gone@there").update(heartbeat_at=timezone.now() - timedelta(minutes=5))
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(3)])
    Item.objects.filter(job=job, position=0).update(
        state=State.SUCCEEDED, worker="w@here", completed_at=timezone.now()
    )
    Job.objects.filter(pk=job.pk).update(succeeded=1)
    page = html(client_of(user).get("/cluster/"))
    for words in ("w@here", "Xeon", "16.0", "gone@there", "Silent", "Busy"):
        assert words in page
    seen = {found.worker.name: found for found in cluster_status.workers_now()}
    assert (seen["w@here"].busy, seen["w@here"].pace, seen["w@here"].alive) == (1, 0.2, True)
    assert not seen["gone@there"].alive
    lines = [(q.name, q.slots, q.waiting, q.jobs) for q in cluster_status.queues_now() if q.served]
    assert lines == [("cpu", 2, 2, 1)]
    assert "Drain" not in page
    assert user.handle not in page.partition("<main")[2]


@pytest.mark.django_db
def test_the_page_needs_a_constant_number_of_queries(
    user: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(30):
        beat(f"w{number}@here", busy=1)
    with django_assert_max_num_queries(6):
        assert len(cluster_status.workers_now()) == 30


@pytest.mark.django_db
def test_utilization_by_minute(user: User) -> None:
    now = timezone.now().replace(second=30, microsecond=0)
    for minutes, worker, slots, busy in ((2, "a", 2, 2), (2, "a", 2, 0), (2, "b", 2, 2), (1, "a", 2, 1)):
        at = now - timedelta(minutes=minutes)
        FleetSample.objects.create(worker=worker, at=at, slots=slots, busy=busy)
    FleetSample.objects.create(worker="a", at=now - timedelta(hours=3), slots=2, busy=2)
    assert [minute.percent for minute in cluster_status.utilization()] == [75, 50]


@pytest.mark.django_db
def test_old_samples_are_deleted() -> None:
    beat()
    FleetSample.objects.create(worker="a", at=timezone.now() - timedelta(days=2), slots=2, busy=2)
    registry.delete_old_rows()
    assert FleetSample.objects.count() == 1


@pytest.mark.django_db
def test_a_required_queue_without_a_worker_is_shown(user: User, client_of: Callable[[User], Client]) -> None:
    beat(queues=["cpu", "preview", "convert"])
    unserved = [line.name for line in cluster_status.queues_now() if not line.served]
    assert unserved == ["background"]
    page = html(client_of(user).get("/cluster/"))
    assert page.count("no worker<") == 1
    assert "Checks of uploads" in page
    beat("other@here", queues=["background"])
    assert "no worker<" not in html(client_of(user).get("/cluster/"))


@pytest.mark.django_db
def test_an_empty_cluster_says_so(user: User, client_of: Callable[[User], Client]) -> None:
    assert "No worker is running" in html(client_of(user).get("/cluster/"))
    assert Client().get("/cluster/").status_code == 302


# --- Draining.


@pytest.mark.django_db
def test_only_operators_drain_and_resume(user: User, client_of: Callable[[User], Client]) -> None:
    beat()
    person = client_of(user)
    assert person.post("/cluster/w@here/drain/").status_code == 403
    assert not Drain.objects.exists()
    person = client_of(operator(user))
    assert "Drain w@here" in html(person.get("/cluster/"))
    for _ in range(2):
        assert person.post("/cluster/w@here/drain/").status_code == 302
    assert Drain.objects.get().by == user
    assert "Draining" in html(person.get("/cluster/"))
    assert person.post("/cluster/w@here/resume/").status_code == 302
    assert not Drain.objects.exists()
    assert person.post("/cluster/nobody/drain/").status_code == 404


@pytest.mark.django_db
def test_a_drained_worker_serves_no_queue() -> None:
    beat()
    assert (registry.slots_of("cpu"), registry.is_served("cpu"), registry.served_queues()) == (
        2,
        True,
        {"cpu": 2},
    )
    beat(drained=True)
    assert (registry.slots_of("cpu"), registry.is_served("cpu"), registry.served_queues()) == (0, False, {})


@pytest.mark.django_db(transaction=True)
def test_a_real_worker_is_drained_and_resumed(user: User, celery_worker: Callable[..., LiveWorker]) -> None:
    worker = celery_worker(queues="cpu,background", slots=1)
    Drain.objects.create(worker=worker.name)
    _wait(lambda: Worker.objects.get(name=worker.name).drained)
    job = submit(user, [upload(user, "a.jpg", seed=1)])
    time.sleep(3)
    job.refresh_from_db()
    assert (job.state, job.done) == (State.STARTING, 0)
    Drain.objects.all().delete()
    _wait(lambda: Job.objects.get(pk=job.pk).state == State.SUCCEEDED)
    assert not Worker.objects.get(name=worker.name).drained
    assert Worker.objects.get(name=worker.name).machine["cores"] > 0
    assert FleetSample.objects.filter(worker=worker.name).exists()


def _wait(done: Callable[[], bool], *, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends, "It took too long."
        time.sleep(0.1)


# --- Metrics.


@pytest.mark.django_db
def test_metrics_match_the_page(user: User) -> None:
    beat(busy=1)
    submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(3)])
    answer = Client().get("/metrics")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    lines = set(html(answer).splitlines())
    assert {
        'ipau_worker_up{worker="w@here"} 1.0',
        'ipau_worker_busy{worker="w@here"} 1.0',
        'ipau_queue_slots{queue="cpu"} 2.0',
        'ipau_queue_waiting{queue="cpu"} 3.0',
        'ipau_pictures_total{outcome="succeeded"} 0.0',
        'ipau_jobs_open{state="starting"} 1.0',
        "ipau_webhooks_waiting 0.0",
    } <= lines


@pytest.mark.django_db
def test_access_to_metrics() -> None:
    outside = Client(REMOTE_ADDR="203.0.113.9")
    assert outside.get("/metrics").status_code == 404
    assert Client().get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 404
    assert Client(REMOTE_ADDR="").get("/metrics").status_code == 404
    with override_settings(METRICS_KEY="secret"):
        assert Client().get("/metrics").status_code == 404
        assert outside.get("/metrics", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert outside.get("/metrics", headers={"Authorization": "Bearer sécret"}).status_code == 404


# --- Configuration of workers.


@pytest.mark.django_db
def test_a_valid_configuration_has_no_problems(user: User) -> None:
    upload(user)
    assert list(startup_checks.problems(current_app)) == []


class _App:
    """The Celery app with some changed settings."""

    def __init__(self, **changes: Any) -> None:
        self.conf = _Conf(changes)
        self.tasks = current_app.tasks


class _Conf:
    def __init__(self, changes: Mapping[str, Any]) -> None:
        self._changes = changes

    def __getitem__(self, name: str) -> Any:
        return self._changes.get(name, current_app.conf[name])

    __getattr__ = __getitem__


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task_acks_late": False}, "task_acks_late must be True"),
        ({"worker_prefetch_multiplier": 4}, "worker_prefetch_multiplier must be 1"),
        ({"task_reject_on_worker_lost": None}, "task_reject_on_worker_lost"),
        ({"broker_url": "memory://"}, "Redis or Valkey"),
        ({"broker_transport_options": {"visibility_timeout": 60}}, r"visibility_timeout \(60 s\)"),
    ],
)
def test_each_wrong_setting_is_named(changes: dict[str, Any], words: str) -> None:

    found = list(startup_checks.problems(_App(**changes)))
    assert len(found) == 1
    assert re.search(words, found[0])


@pytest.mark.django_db
@pytest.mark.parametrize(("size", "right"), [(0, True), (512, True), (513, False), (-1, False)])
def test_loaded_models_use_at_most_half_of_the_memory_of_a_slot(size: int, right: bool) -> None:
    with override_settings(SLOT_MEMORY_BYTES=1024, SLOT_CACHE_BYTES=size):
        found = list(startup_checks.problems(current_app))
    assert (found == []) == right
    if not right:
        assert found == ["IPAU_SLOT_CACHE_BYTES must be at most half of IPAU_SLOT_MEMORY_BYTES."]


@pytest.mark.django_db
def test_a_storage_without_the_files_of_the_site_is_refused(user: User, tmp_path: Path) -> None:
    upload(user)
    elsewhere = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(tmp_path)},
    }
    with override_settings(STORAGES={**settings.STORAGES, "default": elsewhere}):
        found = list(startup_checks.problems(current_app))
    assert found == ["its storage does not have the site's files: use the same folder or bucket as the site."]


@pytest.mark.django_db(transaction=True)
def test_a_misconfigured_worker_does_not_start(process_env: Mapping[str, str]) -> None:
    code = (
        "from ipau.celery import app; app.conf.worker_prefetch_multiplier = 4;"
        "app.worker_main(['worker', '-Q', 'cpu', '-c', '1', '-n', 'wrong@here'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=dict(process_env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == startup_checks.REFUSED
    assert "This worker cannot start: Celery's worker_prefetch_multiplier must be 1" in ended.stderr
    assert not Worker.objects.filter(name="wrong@here").exists()


@pytest.mark.django_db
def test_the_start_page_shows_whether_a_worker_runs(user: User, client_of: Callable[[User], Client]) -> None:
    person = client_of(user)
    assert "No worker is running" in html(person.get("/"))
    beat()
    page = html(person.get("/"))
    assert "All systems running" in page
    assert 'href="/cluster/"' in page
