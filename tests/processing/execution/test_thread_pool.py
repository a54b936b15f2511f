"""Turns of the queue `gpu`: images in parallel, and the effect of a bad image on the others."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from pytest_django import Settings

from accounts.models import User
from ipau.common.postgresql import retry
from processing import services
from processing.execution import runner, thread_pool, work
from processing.fleet import registry as fleet
from processing.job_queue import claims
from processing.models import Item, Job, State
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing import crashing_operation
from tests.processing.execution.test_lease_renewal import poisoned
from tests.processing.factories import on_gpu, states, submit
from tests.processing.wait_for_jobs import (
    assert_each_result_once,
    connections_there,
    wait_for_running_item,
    wait_until,
)
from workers import registry
from workers.plugin import DeviceLost

committed = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _poison(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.GPU_DEVICE, settings.GPU_THREADS = "torch-cpu", 4
    # Makes chunks as large as possible.
    monkeypatch.setattr(work, "_seconds_per_image", {"gpu:poison": 0.001})
    with registry.register(crashing_operation.Poison()):
        yield


@pytest.fixture
def ended_slots(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Reasons for which the slot would have ended."""
    ended: list[str] = []
    monkeypatch.setattr(thread_pool, "end_slot", ended.append)
    return ended


def image_threads() -> list[threading.Thread]:
    """Return the image threads that still run a moment later."""
    time.sleep(0.1)
    return [thread for thread in threading.enumerate() if thread.name == "image"]


pytestmark = pytest.mark.usefixtures("_poison")


# --- Several at once.


@committed
def test_images_run_in_parallel(user: User, ended_slots: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = connections_there()
    together = threading.Barrier(4, timeout=20)
    run = runner.engine.run

    def meet(*given: Any, **named: Any) -> Any:
        together.wait()
        return run(*given, **named)

    monkeypatch.setattr(runner.engine, "run", meet)
    job = on_gpu(poisoned(user, *[crashing_operation.WELL] * 8))
    work.take_turn(user.pk, "gpu")
    job.refresh_from_db()
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 8)
    assert set(Item.objects.filter(job=job).values_list("device", flat=True)) == {"gpu"}
    assert_each_result_once(job)
    assert ended_slots == []
    assert image_threads() == []
    # PostgreSQL needs a moment to notice a closed connection.
    wait_until(lambda: connections_there() <= before, "a connection is left")


@committed
def test_time_per_image_covers_all_threads(user: User) -> None:
    on_gpu(poisoned(user, *[crashing_operation.DOZES] * 8))
    work._seconds_per_image["gpu:poison"] = 0.0
    begun = time.monotonic()
    work.take_turn(user.pk, "gpu")
    # The average of the old value and the measured one: two rounds for eight images.
    took = time.monotonic() - begun
    average = work._seconds_per_image["gpu:poison"]
    assert 0.5 * 2 * crashing_operation.DOZE_SECONDS / 8 <= average <= 0.5 * took / 8


@committed
def test_bad_image_fails_alone(user: User) -> None:
    widths = (
        crashing_operation.WELL,
        crashing_operation.BREAKS,
        crashing_operation.WELL,
        crashing_operation.EATS,
        crashing_operation.WELL,
    )
    job = on_gpu(poisoned(user, *widths))
    work.take_turn(user.pk, "gpu")
    codes = Item.objects.filter(job=job).order_by("position").values_list("error_code", flat=True)
    assert list(codes) == ["", "internal", "", "memory", ""]
    job.refresh_from_db()
    assert (job.state, job.succeeded, job.failed) == (State.SUCCEEDED, 3, 2)


@committed
def test_duplicate_image_runs_once(user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv(crashing_operation.LOG, str(log))
    data = [
        picture_bytes("PNG", width=crashing_operation.WELL, height=40, seed=seed) for seed in (1, 2, 1, 1)
    ]
    job = on_gpu(submit(user, [upload(user, f"{n}.png", data=one) for n, one in enumerate(data)]))
    Job.objects.filter(pk=job.pk).update(recipe=crashing_operation.RECIPE)
    work.take_turn(user.pk, "gpu")
    assert states(job) == [State.SUCCEEDED] * 4
    assert log.read_text().splitlines() == [str(crashing_operation.WELL)] * 2
    assert Item.objects.filter(job=job, reused=True).count() == 2


# --- Interruptions and failures.


@committed
def test_endless_image_kills_the_slot_but_no_other_image(
    user: User, ended_slots: list[str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ITEM_SECONDS = 1
    settings.GPU_THREADS = 2
    monkeypatch.setattr(thread_pool, "STOP_GRACE", 0.2)
    job = on_gpu(poisoned(user, crashing_operation.SLOW, *[crashing_operation.DOZES] * 12))
    work.take_turn(user.pk, "gpu")
    slow, *others = states(job)
    item = Item.objects.get(job=job, position=0)
    assert (slow, item.error_code) == (State.FAILED, "too_slow")
    # Images that ran at the same time are done. The others wait and lost no attempt.
    done = others.count(State.SUCCEEDED)
    assert 2 <= done < 12
    assert others == [State.SUCCEEDED] * done + [State.STARTING] * (12 - done)
    assert set(Item.objects.filter(job=job, state=State.STARTING).values_list("attempts", flat=True)) == {0}
    assert len(ended_slots) == 1
    time.sleep(crashing_operation.SLOW_SECONDS - 1)
    item.refresh_from_db()
    assert item.error_code == "too_slow"


@committed
def test_image_that_calls_checkpoint_ends_in_time(
    user: User, ended_slots: list[str], settings: Settings
) -> None:
    settings.ITEM_SECONDS = 1
    job = on_gpu(poisoned(user, crashing_operation.LISTENS, crashing_operation.WELL))
    work.take_turn(user.pk, "gpu")
    assert states(job) == [State.FAILED, State.SUCCEEDED]
    assert Item.objects.get(job=job, position=0).error_code == "too_slow"
    assert ended_slots == []


@committed
def test_cancel_stops_all_threads(user: User, ended_slots: list[str]) -> None:
    job = on_gpu(poisoned(user, *[crashing_operation.LISTENS] * 6))
    took: list[float] = []

    def cancel() -> None:
        try:
            wait_for_running_item(job)
            time.sleep(0.3)
            took.append(time.monotonic())
            services.cancel_job(owner=user, job_id=job.pk)
        finally:
            connection.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    work.take_turn(user.pk, "gpu")
    assert time.monotonic() - took[0] < 2
    thread.join()
    assert states(job) == [State.CANCELED] * 6
    assert ended_slots == []
    assert image_threads() == []


@committed
def test_lost_gpu_loses_no_image(user: User, ended_slots: list[str]) -> None:
    job = on_gpu(
        poisoned(user, crashing_operation.LOSES, crashing_operation.WELL, *[crashing_operation.DOZES] * 12)
    )
    work.take_turn(user.pk, "gpu")
    assert len(ended_slots) == 1
    first, *others = states(job)
    # The item is still leased. The next heartbeat without this slot releases it.
    assert first == State.PROCESSING
    assert set(others) == {State.SUCCEEDED, State.STARTING}
    claims.reclaim(fleet.leases_of(fleet.this_slot()))
    assert Item.objects.get(job=job, position=0).attempts == 1
    assert states(job)[0] == State.STARTING


@committed
def test_model_that_loses_the_gpu_while_loading_has_three_attempts(
    user: User, monkeypatch: pytest.MonkeyPatch, ended_slots: list[str]
) -> None:
    def lose(*_: Any) -> None:
        raise DeviceLost

    monkeypatch.setattr(runner.engine, "load_models", lose)
    job = on_gpu(poisoned(user, crashing_operation.WELL))
    for attempt in (1, 2, 3):
        work.take_turn(user.pk, "gpu")
        assert len(ended_slots) == attempt
        # The sweep does this after the end of the slot.
        claims.reclaim(fleet.leases_of(fleet.this_slot()))
    item = Item.objects.get(job=job)
    assert (item.state, item.error_code, item.attempts) == (State.FAILED, "worker_lost", 3)


@committed
def test_model_that_cannot_be_loaded_fails_each_image(
    user: User, monkeypatch: pytest.MonkeyPatch, ended_slots: list[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("a network of another kind")

    monkeypatch.setattr(runner.engine, "load_models", fail)
    job = on_gpu(poisoned(user, crashing_operation.WELL, crashing_operation.WELL))
    work.take_turn(user.pk, "gpu")
    codes = Item.objects.filter(job=job).values_list("error_code", flat=True)
    assert list(codes) == ["internal", "internal"]
    assert ended_slots == []


@committed
@pytest.mark.parametrize(("error", "code"), [(OSError("no storage"), "storage"), (MemoryError(), "no_room")])
def test_transient_model_load_error_is_retried(
    user: User, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def away(*_: Any) -> None:
        raise error

    job = on_gpu(poisoned(user, crashing_operation.WELL, crashing_operation.WELL))
    with monkeypatch.context() as patch:
        patch.setattr(runner.engine, "load_models", away)
        work.take_turn(user.pk, "gpu")
    assert states(job) == [State.PROCESSING] * 2
    assert set(Item.objects.filter(job=job).values_list("error_code", flat=True)) == {code}


@committed
def test_database_outage_ends_the_turn_and_releases_all(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("no server")

    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(runner, "_store", away)
    job = on_gpu(poisoned(user, *[crashing_operation.WELL] * 3))
    with pytest.raises(OperationalError):
        work.take_turn(user.pk, "gpu")
    assert states(job) == [State.STARTING] * 3
    assert image_threads() == []
