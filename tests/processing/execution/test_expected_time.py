"""Overlong images: preemption for other owners, throttling of later turns, and lack of memory."""

import math
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.models.functions import Now

from accounts.models import User
from market.models import DeviceKind, Speed, Version
from processing.execution import expected_time, work
from processing.execution.outcomes import Fault, failure_of
from processing.fleet import registry as fleet
from processing.fleet import slot_memory
from processing.job_queue import claims, wakeups
from processing.job_queue.claims import Slot
from processing.models import Item, Job, Lane, State
from tests.factories import UserFactory
from tests.live import LiveWorker
from tests.market import factories
from tests.processing import crashing_operation
from tests.processing.execution.test_lease_renewal import poisoned
from tests.processing.execution.test_thread_pool import ended_slots  # noqa: F401  (a fixture)
from tests.processing.factories import submit
from tests.processing.fake_workers import stand_in
from tests.processing.wait_for_jobs import fill, wait_for_end, wait_until
from workers.recipe import Recipe

StartWorker = Callable[..., LiveWorker]
pytestmark = pytest.mark.django_db


@pytest.fixture
def other() -> User:
    return UserFactory.create()


def claim(job: Job, pid: int) -> claims.Claim:
    held = claims.claim(job=job, slot=Slot("w@here", pid), slots=2, seconds=1, seconds_per_item=None)
    assert held is not None
    return held


# --- Preemption.


def test_slot_that_started_last_is_preempted(user: User, other: User) -> None:
    stand_in("cpu", pids=(1, 2))
    job = submit(user, fill(user, 3))
    first, second = claim(job, 1), claim(job, 2)

    def asked(held: claims.Claim) -> bool:
        return wakeups.should_preempt(owner_id=user.pk, queue="cpu", token=held.token)

    assert (asked(first), asked(second)) == (False, False)
    others = submit(other, fill(other, 2))
    assert (asked(first), asked(second)) == (False, True)
    # The other owner is served, so no owner waits.
    claim(others, 3)
    assert (asked(first), asked(second)) == (False, False)


def test_owner_without_all_slots_is_not_preempted(user: User, other: User) -> None:
    stand_in("cpu", pids=(1, 2, 3))
    job = submit(user, fill(user, 3))
    held = [claim(job, 1), claim(job, 2)]
    submit(other, fill(other, 1))
    assert not any(wakeups.should_preempt(owner_id=user.pk, queue="cpu", token=one.token) for one in held)


def test_single_slot_is_not_preempted(user: User, other: User) -> None:
    """Otherwise its work would never get done."""
    stand_in("cpu", pids=(1,))
    held = claim(submit(user, fill(user, 1)), 1)
    submit(other, fill(other, 1))
    assert not wakeups.should_preempt(owner_id=user.pk, queue="cpu", token=held.token)


# --- Throttling.


def test_throttled_owner_leaves_a_slot_free(user: User) -> None:
    stand_in("cpu", pids=(1, 2))
    job = submit(user, fill(user, 3))
    wakeups.throttle(owner_id=user.pk, queue="cpu", seconds=3)
    assert wakeups.may_take_turn(owner_id=user.pk, queue="cpu")
    claim(job, 1)
    assert not wakeups.may_take_turn(owner_id=user.pk, queue="cpu")
    Lane.objects.filter(owner=user).update(outstanding=1)
    assert wakeups.end_turn(owner_id=user.pk, queue="cpu") == 1
    Lane.objects.filter(owner=user).update(restrained_until=Now() - timedelta(seconds=1), outstanding=1)
    assert wakeups.may_take_turn(owner_id=user.pk, queue="cpu")
    assert wakeups.end_turn(owner_id=user.pk, queue="cpu") == 2


def test_throttled_owner_waits_for_others_with_one_slot(user: User, other: User) -> None:
    stand_in("cpu", pids=(1,))
    submit(user, fill(user, 1))
    wakeups.throttle(owner_id=user.pk, queue="cpu", seconds=3)
    assert wakeups.may_take_turn(owner_id=user.pk, queue="cpu")
    job = submit(other, fill(other, 1))
    assert not wakeups.may_take_turn(owner_id=user.pk, queue="cpu")
    work.take_turn(user.pk, "cpu")
    assert not Item.objects.filter(job__owner=user).exclude(state=State.STARTING).exists()
    work.take_turn(other.pk, "cpu")
    job.refresh_from_db()
    assert job.state == State.SUCCEEDED
    assert wakeups.may_take_turn(owner_id=user.pk, queue="cpu")


def test_throttling_has_a_maximum(user: User) -> None:
    submit(user, fill(user, 1))
    wakeups.throttle(owner_id=user.pk, queue="cpu", seconds=10**6)
    lane = Lane.objects.annotate(now=Now()).get(owner=user)
    assert lane.restrained_until is not None
    left = (lane.restrained_until - lane.now).total_seconds()
    assert 0 < left <= wakeups.MAX_THROTTLE_SECONDS
    wakeups.throttle(owner_id=user.pk, queue="cpu", seconds=1)
    assert Lane.objects.get(owner=user).restrained_until == lane.restrained_until


# --- Expected time.


@pytest.fixture
def forget_trials() -> None:
    """Clear cached trials of models with the same digest from other tests."""
    expected_time._known.clear()
    expected_time._missing_until.clear()


def _try(version: Version) -> Speed:
    """Record a trial: 0.9 s for the first image, 0.5 s for each later one."""
    return Speed.objects.create(
        weights=version.weights,
        kind=DeviceKind.CPU,
        device="a processor",
        first_ms=900,
        each_ms=500,
        runs=3,
        width=600,
        height=400,
    )


@pytest.mark.usefixtures("forget_trials")
def test_the_limit_of_a_run_follows_the_trial(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_time, "RECHECK_SECONDS", 0)
    with factories.marks():
        version = factories.model(user)
    assert version.weights is not None
    recipe = Recipe.model_validate(version.recipe)
    assert expected_time.network_seconds(recipe) == 22.5
    speed = _try(version)
    assert expected_time.network_seconds(recipe) == 10
    # A measured trial is not queried again.
    Speed.objects.filter(pk=speed.pk).update(each_ms=5.6)
    assert expected_time.network_seconds(recipe) == 10
    expected_time._known.clear()
    assert expected_time.network_seconds(recipe) == 5
    expected_time._known.clear()
    Speed.objects.filter(pk=speed.pk).update(each_ms=60_000)
    assert expected_time.network_seconds(recipe) == 45


@pytest.mark.usefixtures("forget_trials")
def test_a_model_without_a_trial_costs_no_query_each_time(
    user: User, django_assert_num_queries: Callable[..., Any]
) -> None:
    with factories.marks():
        recipe = Recipe.model_validate(factories.model(user).recipe)
    with django_assert_num_queries(1):
        assert [expected_time.network_seconds(recipe) for _ in range(3)] == [22.5] * 3


@pytest.mark.usefixtures("forget_trials")
def test_overlong_limit_depends_on_trial_and_pixels(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_time, "RECHECK_SECONDS", 0)
    with factories.marks():
        version = factories.model(user)
    recipe = Recipe.model_validate(version.recipe)
    small = SimpleNamespace(input_file=SimpleNamespace(width=600, height=400))
    large = SimpleNamespace(input_file=SimpleNamespace(width=6000, height=4000))
    gone = SimpleNamespace(input_file=None)
    assert expected_time.preempt_after(recipe, small) == 2
    assert expected_time.overlong_after(recipe, small) == math.inf
    _try(version)
    # The first image took 0.9 s, and each later one half a second.
    assert expected_time.overlong_after(recipe, small) == pytest.approx(0.9 + 2.5)
    # However slow the model is, another owner waits at most for one turn.
    assert expected_time.preempt_after(recipe, small) == expected_time.MAX_TURN_SECONDS
    assert expected_time.overlong_after(recipe, large) == pytest.approx(0.9 + 250)
    assert expected_time.overlong_after(recipe, gone) == pytest.approx(0.9 + 2.5)
    Speed.objects.update(first_ms=7, each_ms=2)
    expected_time._known.clear()
    assert expected_time.preempt_after(recipe, small) == expected_time.MIN_PREEMPT_SECONDS
    assert expected_time.overlong_after(recipe, small) == expected_time.MIN_OVERLONG_SECONDS


# --- On workers.


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_another_owner_is_served_while_one_hangs_in_all_slots(
    user: User, other: User, celery_worker: StartWorker
) -> None:
    celery_worker(slots=2, include="tests.processing.worker_with_crashing_operation", IPAU_ITEM_SECONDS="15")
    bad = poisoned(user, *[crashing_operation.HANGS] * 6)
    at_work = Item.objects.filter(job=bad, state=State.PROCESSING)
    wait_until(lambda: at_work.count() == 2, "both slots are to hang")
    began = time.monotonic()
    wait_for_end(submit(other, fill(other, 3)), seconds=20)
    # Two seconds until the image is overlong, and some time to notice that and to run.
    assert time.monotonic() - began < 8
    assert Lane.objects.filter(owner=user, restrained_until__gt=Now()).exists()
    # From now on one slot stays free.
    took = []
    for _ in range(3):
        began = time.monotonic()
        wait_for_end(submit(other, fill(other, 1)), seconds=20)
        took.append(time.monotonic() - began)
    assert max(took) < 2
    # The preempted image lost no attempt. Hanging images fail in the end, once.
    assert set(Item.objects.filter(job=bad, state=State.STARTING).values_list("attempts", flat=True)) == {0}
    failed = Item.objects.filter(job=bad, state=State.FAILED)
    wait_until(failed.exists, "what hangs is to fail")
    assert set(failed.values_list("error_code", "attempts")) == {("too_slow", 1)}


# --- Memory.


def test_lack_of_memory_is_recognized_from_every_error() -> None:
    for error in (
        MemoryError(),
        ImportError("libfoo.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
    ):
        assert slot_memory.is_lack_of_memory(error)
        assert failure_of(error).code == "no_memory"
        assert failure_of(error).fault is Fault.IMAGE
    for other_error in (
        ValueError("cannot allocate memory"),
        OSError(28, "No space left"),
        ImportError("no"),
    ):
        assert not slot_memory.is_lack_of_memory(other_error)


@pytest.mark.django_db(transaction=True)
def test_image_without_memory_is_retried_in_a_fresh_slot(
    user: User,
    ended_slots: list[str],  # noqa: F811  (a fixture)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.processing.crashing_operation import Poison
    from workers import registry

    with registry.register(Poison()):
        job = poisoned(user, crashing_operation.EATS, crashing_operation.WELL)
        monkeypatch.setattr(slot_memory, "_limit", 0.0)
        work.take_turn(user.pk, "cpu")
        assert len(ended_slots) == 1
        item = Item.objects.get(job=job, position=0)
        assert (item.state, item.attempts) == (State.PROCESSING, 1)
        # The sweep does this after the end of the slot.
        claims.reclaim(fleet.lost_leases())
        monkeypatch.setattr(slot_memory, "_limit", None)
        for _ in range(3):
            work.take_turn(user.pk, "cpu")
    job.refresh_from_db()
    assert (job.state, job.succeeded, job.failed) == (State.SUCCEEDED, 1, 1)
    item.refresh_from_db()
    assert (item.error_code, item.attempts) == ("memory", 2)


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_leaked_memory_does_not_fail_the_next_image(user: User, celery_worker: StartWorker) -> None:
    """The slot keeps 1.5 GB of 2 GB. The next image needs 800 MB and gets them in another slot."""
    celery_worker(
        slots=1,
        include="tests.processing.worker_with_crashing_operation",
        IPAU_SLOT_MEMORY_BYTES=str(2 * 1024**3),
    )
    job = wait_for_end(poisoned(user, crashing_operation.KEEPS, crashing_operation.NEEDS), seconds=60)
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 2)
