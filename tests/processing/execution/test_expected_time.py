"""Images that take far too long: they give way to other owners, and count against later turns."""

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


# --- Who gives way.


def test_the_slot_that_began_last_gives_way_to_an_owner_who_waits(user: User, other: User) -> None:
    stand_in("cpu", pids=(1, 2))
    job = submit(user, fill(user, 3))
    first, second = claim(job, 1), claim(job, 2)

    def asked(held: claims.Claim) -> bool:
        return wakeups.should_preempt(owner_id=user.pk, queue="cpu", token=held.token)

    assert (asked(first), asked(second)) == (False, False)
    others = submit(other, fill(other, 2))
    assert (asked(first), asked(second)) == (False, True)
    # The other is served: there is nobody to give way to.
    claim(others, 3)
    assert (asked(first), asked(second)) == (False, False)


def test_an_owner_who_has_not_all_slots_gives_no_way(user: User, other: User) -> None:
    stand_in("cpu", pids=(1, 2, 3))
    job = submit(user, fill(user, 3))
    held = [claim(job, 1), claim(job, 2)]
    submit(other, fill(other, 1))
    assert not any(wakeups.should_preempt(owner_id=user.pk, queue="cpu", token=one.token) for one in held)


def test_the_only_slot_gives_no_way(user: User, other: User) -> None:
    """What it put back would never get done."""
    stand_in("cpu", pids=(1,))
    held = claim(submit(user, fill(user, 1)), 1)
    submit(other, fill(other, 1))
    assert not wakeups.should_preempt(owner_id=user.pk, queue="cpu", token=held.token)


# --- What follows.


def test_a_restrained_owner_leaves_a_slot_free(user: User) -> None:
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


def test_with_one_slot_a_restrained_owner_waits_while_others_do(user: User, other: User) -> None:
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


def test_restraint_adds_up_to_no_more_than_a_bound(user: User) -> None:
    submit(user, fill(user, 1))
    wakeups.throttle(owner_id=user.pk, queue="cpu", seconds=10**6)
    lane = Lane.objects.annotate(now=Now()).get(owner=user)
    assert lane.restrained_until is not None
    left = (lane.restrained_until - lane.now).total_seconds()
    assert 0 < left <= wakeups.MAX_THROTTLE_SECONDS
    wakeups.throttle(owner_id=user.pk, queue="cpu", seconds=1)
    assert Lane.objects.get(owner=user).restrained_until == lane.restrained_until


# --- What is expected.


@pytest.fixture
def nothing_known() -> None:
    """Forget the trials of models with the same digest that other tests made."""
    expected_time._known.clear()
    expected_time._missing_until.clear()


def _try(version: Version) -> Speed:
    """Record a trial: 0.9 s for the first image, half a second for each later one."""
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


@pytest.mark.usefixtures("nothing_known")
def test_the_limit_of_a_run_follows_the_trial(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected_time, "RECHECK_SECONDS", 0)
    with factories.marks():
        version = factories.model(user)
    assert version.weights is not None
    recipe = Recipe.model_validate(version.recipe)
    assert expected_time.network_seconds(recipe) == 22.5
    speed = _try(version)
    assert expected_time.network_seconds(recipe) == 10
    # It has been measured, and is not asked for again.
    Speed.objects.filter(pk=speed.pk).update(each_ms=5.6)
    assert expected_time.network_seconds(recipe) == 10
    expected_time._known.clear()
    assert expected_time.network_seconds(recipe) == 5
    expected_time._known.clear()
    Speed.objects.filter(pk=speed.pk).update(each_ms=60_000)
    assert expected_time.network_seconds(recipe) == 45


@pytest.mark.usefixtures("nothing_known")
def test_a_model_without_a_trial_costs_no_query_each_time(
    user: User, django_assert_num_queries: Callable[..., Any]
) -> None:
    with factories.marks():
        recipe = Recipe.model_validate(factories.model(user).recipe)
    with django_assert_num_queries(1):
        assert [expected_time.network_seconds(recipe) for _ in range(3)] == [22.5] * 3


@pytest.mark.usefixtures("nothing_known")
def test_what_is_overlong_follows_trial_and_pixels(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
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
    # However slow it is, another owner waits no longer than for a turn.
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
    celery_worker(slots=2, include="tests.processing.worker_with_crashing_operation", IPAU_ITEM_SECONDS="20")
    bad = poisoned(user, *[crashing_operation.HANGS] * 6)
    at_work = Item.objects.filter(job=bad, state=State.PROCESSING)
    wait_until(lambda: at_work.count() == 2, "both slots are to hang")
    began = time.monotonic()
    wait_for_end(submit(other, fill(other, 3)), seconds=20)
    # Two seconds until it is overlong, and a little to notice and to run.
    assert time.monotonic() - began < 8
    assert Lane.objects.filter(owner=user, restrained_until__gt=Now()).exists()
    # From now on a slot is free at once.
    took = []
    for _ in range(3):
        began = time.monotonic()
        wait_for_end(submit(other, fill(other, 1)), seconds=20)
        took.append(time.monotonic() - began)
    assert max(took) < 2
    # What gave way has lost no attempt, and what hangs fails in the end, once.
    assert set(Item.objects.filter(job=bad, state=State.STARTING).values_list("attempts", flat=True)) == {0}
    failed = Item.objects.filter(job=bad, state=State.FAILED)
    wait_until(failed.exists, "what hangs is to fail")
    assert set(failed.values_list("error_code", "attempts")) == {("too_slow", 1)}


# --- Memory.


def test_lack_of_memory_is_known_whoever_tells_of_it() -> None:
    for error in (
        MemoryError(),
        ImportError("libfoo.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
    ):
        assert slot_memory.is_lack_of_memory(error)
        assert failure_of(error).code == "no_memory"
        assert failure_of(error).fault is Fault.PICTURE
    for other_error in (
        ValueError("cannot allocate memory"),
        OSError(28, "No space left"),
        ImportError("no"),
    ):
        assert not slot_memory.is_lack_of_memory(other_error)


@pytest.mark.django_db(transaction=True)
def test_an_image_without_memory_is_tried_again_in_a_fresh_slot(
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
        # As the sweep does after the end of the slot.
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
def test_what_one_image_left_behind_is_no_fault_of_the_next(user: User, celery_worker: StartWorker) -> None:
    """The slot keeps 1.5 GB, of 2. The next image needs 800 MB and gets them in another slot."""
    celery_worker(
        slots=1,
        include="tests.processing.worker_with_crashing_operation",
        IPAU_SLOT_MEMORY_BYTES=str(2 * 1024**3),
    )
    job = wait_for_end(poisoned(user, crashing_operation.KEEPS, crashing_operation.NEEDS), seconds=60)
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 2)
