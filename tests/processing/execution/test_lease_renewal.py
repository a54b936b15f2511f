"""Long images: lease renewal, and interruption when the result is no longer needed."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import User
from processing import services
from processing.execution import tasks, time_limits, work
from processing.execution.time_limits import TookTooLong, Unwanted, WorkInterrupted, time_limit
from processing.fleet import registry as fleet
from processing.job_queue import claims
from processing.models import Item, Job, State
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.pictures import picture_bytes
from tests.processing import crashing_operation
from tests.processing.execution.test_races import at_once
from tests.processing.factories import submit
from tests.processing.wait_for_jobs import connections_there, wait_for_end, wait_for_running_item, wait_until
from workers import registry

StartWorker = Callable[..., LiveWorker]


def poisoned(user: User, *widths: int) -> Job:
    files = [
        upload(user, f"{n:02}.png", data=picture_bytes("PNG", width=width, height=40, seed=n))
        for n, width in enumerate(widths)
    ]
    job = submit(user, files)
    Job.objects.filter(pk=job.pk).update(recipe=crashing_operation.RECIPE)
    job.refresh_from_db()
    return job


def spin(seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pass


# --- Interrupting.


def test_time_limit_interrupts_its_block() -> None:
    begun = time.monotonic()
    with pytest.raises(TookTooLong), time_limit(0.2):
        spin(5)
    assert time.monotonic() - begun < 2


def test_interruption_repeats_when_code_swallows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "REPEAT_SECONDS", 0.05)
    swallowed = []

    def careless() -> None:
        try:
            spin(5)
        except BaseException:  # noqa: BLE001  (as a careless operation would)
            swallowed.append(True)
        spin(5)

    with pytest.raises(TookTooLong), time_limit(0.1):
        careless()
    assert swallowed == [True]


def test_interruption_is_not_an_exception_subclass() -> None:
    assert not issubclass(WorkInterrupted, Exception)


def test_interrupt_from_another_thread_raises_unwanted() -> None:
    wanted = [True]

    def stop() -> None:
        time.sleep(0.1)
        time_limits.interrupt()  # still wanted: nothing happens
        time.sleep(0.1)
        wanted.clear()
        time_limits.interrupt()

    thread = threading.Thread(target=stop)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(Unwanted), time_limit(30, is_wanted=lambda: bool(wanted)):
        spin(5)
    assert 0.15 < time.monotonic() - begun < 2
    thread.join()


def test_unwanted_block_does_not_start() -> None:
    with pytest.raises(Unwanted), time_limit(30, is_wanted=lambda: False):
        raise AssertionError


def test_late_signal_has_no_effect() -> None:
    with time_limit(30):
        pass
    assert time_limits.running() is None
    signal.raise_signal(signal.SIGALRM)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


# --- Lease renewal, in this process.


@pytest.fixture
def _poison() -> Iterator[None]:
    with registry.register(crashing_operation.Poison()):
        yield


@pytest.mark.usefixtures("_poison")
@pytest.mark.django_db(transaction=True)
def test_lease_is_renewed_during_a_long_image(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE", timedelta(seconds=1.5))
    job = poisoned(user, crashing_operation.SLOW)
    ended = threading.Event()
    lost = []

    def sweep() -> None:
        while not ended.wait(0.1):
            slot = fleet.this_slot()
            fleet.record_heartbeat(
                name=slot.worker, queues=["cpu"], device="cpu", pids=[slot.pid], started_at=timezone.now()
            )
            lost.extend(fleet.lost_leases())

    def beside() -> None:
        try:
            sweep()
        finally:
            connection.close()

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        work.take_turn(user.pk, "cpu")
    finally:
        ended.set()
        thread.join()
    assert lost == []
    item = Item.objects.get(job=job)
    assert (item.state, item.attempts) == (State.SUCCEEDED, 1)
    assert item.timings["run"] > 1000 * (crashing_operation.SLOW_SECONDS - 0.1)


@pytest.mark.usefixtures("_poison")
@pytest.mark.django_db(transaction=True)
def test_canceled_job_stops_its_running_image(user: User) -> None:
    job = poisoned(user, crashing_operation.HANGS)
    took = []

    def cancel() -> None:
        wait_for_running_item(job)
        time.sleep(0.3)
        took.append(time.monotonic())
        services.cancel_job(owner=user, job_id=job.pk)

    def beside() -> None:
        try:
            cancel()
        finally:
            connection.close()

    thread = threading.Thread(target=beside)
    thread.start()
    work.take_turn(user.pk, "cpu")
    assert time.monotonic() - took[0] < 2
    thread.join()
    item = Item.objects.get(job=job)
    assert (item.state, item.error) == (State.CANCELED, "")


@pytest.mark.usefixtures("_poison")
@pytest.mark.django_db(transaction=True)
def test_renewal_thread_and_connection_are_closed(user: User) -> None:
    # Connections of earlier tests may still be closing.
    before = connections_there()
    poisoned(user, crashing_operation.SLOW, crashing_operation.WELL)
    work.take_turn(user.pk, "cpu")
    assert not [thread for thread in threading.enumerate() if thread.name == "lease-renewal"]
    # PostgreSQL needs a moment to notice a closed connection.
    wait_until(lambda: connections_there() <= before, "a connection is still open")


@pytest.mark.usefixtures("_poison")
@pytest.mark.django_db(transaction=True)
def test_short_image_needs_no_second_connection(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = []
    monkeypatch.setattr(claims, "renew", lambda held: renewed.append(held) or True)
    poisoned(user, crashing_operation.WELL)
    assert at_once(lambda: work.take_turn(user.pk, "cpu")) == []
    assert renewed == []


# --- Lease renewal, in real workers.


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("width", [crashing_operation.HANGS, crashing_operation.STUCK])
def test_cancel_stops_a_long_image_and_the_next_one_runs(
    user: User, other_user: User, celery_worker: StartWorker, width: int
) -> None:
    """Even an image that is inside a long C call."""
    worker = celery_worker(slots=1, include="tests.processing.worker_with_crashing_operation")
    job = poisoned(user, width)
    item = wait_for_running_item(job)
    (pid,) = worker.slot_pids()
    time.sleep(1)
    begun = time.monotonic()
    services.cancel_job(owner=user, job_id=job.pk)
    after = submit(other_user, [upload(other_user, "next.jpg", seed=1)])
    if width == crashing_operation.STUCK:
        wait_until_gone(pid)
        print(f"\nThe slot ended {time.monotonic() - begun:.2f} s after the cancel.")
        assert time.monotonic() - begun < 3
    wait_for_end(after, sweep=False)
    print(f"\nThe next result came {time.monotonic() - begun:.2f} s after the cancel.")
    item.refresh_from_db()
    assert (item.state, item.error) == (State.CANCELED, "")
    if width == crashing_operation.HANGS:
        assert time.monotonic() - begun < 3
        assert Item.objects.get(job=after).slot == pid


def wait_until_gone(pid: int) -> None:
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError("The slot still runs.")


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_uninterruptible_image_kills_its_slot_but_not_the_job(user: User, celery_worker: StartWorker) -> None:
    celery_worker(slots=1, include="tests.processing.worker_with_crashing_operation", IPAU_ITEM_SECONDS="2")
    job = wait_for_end(
        poisoned(user, crashing_operation.WELL, crashing_operation.STUCK, crashing_operation.WELL),
        seconds=120,
    )
    failed = Item.objects.filter(job=job, state=State.FAILED)
    assert list(failed.values_list("position", "error_code", "attempts")) == [(1, "too_slow", 1)]
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 2)


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_deadline_stops_a_running_image(user: User, celery_worker: StartWorker) -> None:
    celery_worker(slots=1, include="tests.processing.worker_with_crashing_operation")
    job = poisoned(user, crashing_operation.HANGS)
    wait_for_running_item(job)
    Job.objects.filter(pk=job.pk).update(deadline_at="2020-01-01T00:00Z")
    tasks.sweep()
    after = submit(user, [upload(user, "next.jpg", seed=1)])
    begun = time.monotonic()
    wait_for_end(after, sweep=False)
    assert time.monotonic() - begun < 4
    job.refresh_from_db()
    assert (job.state, job.ending) == (State.CANCELED, "deadline")
