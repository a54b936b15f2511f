"""Wake-ups: counting, end of turns, lost wake-ups; and lost leases."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from processing.fleet import registry
from processing.job_queue import claims, wakeups
from processing.models import Lane
from tests.drive.factories import upload
from tests.processing.factories import submit, take_turns
from tests.processing.fake_workers import stand_in

pytestmark = pytest.mark.django_db


def with_slots(number: int, queue: str = "cpu") -> None:
    stand_in(queue, pids=range(1, number + 1))


def outstanding(user: User) -> int:
    return Lane.objects.get(owner=user, queue="cpu").outstanding


def age(user: User, seconds: float) -> None:
    Lane.objects.filter(owner=user).update(stirred_at=timezone.now() - timedelta(seconds=seconds))


def test_at_most_one_wake_up_per_slot(user: User) -> None:
    with_slots(2)
    for n in range(3):
        submit(user, [upload(user, f"{n}-{m}.jpg", seed=10 * n + m) for m in range(3)])
    assert outstanding(user) == 2


def test_no_more_wake_ups_than_items(user: User) -> None:
    with_slots(8)
    submit(user, [upload(user, seed=1)])
    assert outstanding(user) == 1


def test_turn_resends_its_wake_up_while_work_remains(user: User) -> None:
    with_slots(2)
    submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(4)])
    assert wakeups.end_turn(owner_id=user.pk, queue="cpu") == 1
    assert outstanding(user) == 2
    take_turns(user)
    assert wakeups.end_turn(owner_id=user.pk, queue="cpu") == 0
    assert outstanding(user) == 0


def test_a_new_worker_is_woken_by_the_next_turn(user: User) -> None:
    with_slots(1)
    submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(6)])
    assert outstanding(user) == 1
    with_slots(4)
    assert wakeups.end_turn(owner_id=user.pk, queue="cpu") == 4


def test_lost_wake_ups_are_found_and_replaced(user: User) -> None:
    with_slots(2)
    submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(3)])
    assert wakeups.find_silent(depth={"cpu": 0}) == []
    age(user, 10)
    assert wakeups.find_silent(depth={"cpu": 0}) == [(user.pk, "cpu")]
    assert wakeups.find_silent(depth={"cpu": 50}) == []  # it may just be waiting for its turn
    assert wakeups.replace_lost(owner_id=user.pk, queue="cpu") == 2
    assert wakeups.find_silent(depth={"cpu": 0}) == []


def test_long_turns_do_not_count_as_lost(user: User) -> None:
    with_slots(2)
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(6)])
    for _ in range(2):
        assert claims.claim(job=job, slot=registry.this_slot(), slots=2, seconds=1, seconds_per_item=None)
    age(user, 30)
    assert wakeups.replace_lost(owner_id=user.pk, queue="cpu") == 0
    assert outstanding(user) == 2


def test_no_wake_up_without_work(user: User) -> None:
    submit(user, [upload(user, seed=1)])
    take_turns(user)
    age(user, 100)
    assert wakeups.find_silent(depth={}) == []


def test_lease_is_lost_with_slot_worker_or_expiry(user: User) -> None:
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(1)])
    slot = registry.Slot("w@here", 7)
    claim = claims.claim(job=job, slot=slot, slots=1, seconds=1, seconds_per_item=None)
    assert claim is not None
    item = claim.items[0]
    beat = {"queues": ["cpu"], "device": "cpu", "started_at": timezone.now()}

    registry.record_heartbeat(name="w@here", pids=[7, 8], **beat)
    assert registry.lost_leases() == {}

    earlier = timezone.now() - timedelta(seconds=3)
    type(item).objects.filter(pk=item.pk).update(started_at=earlier)
    registry.record_heartbeat(name="w@here", pids=[7, 8], **beat)
    assert registry.lost_leases() == {}
    registry.record_heartbeat(name="w@here", pids=[8], **beat)
    assert registry.lost_leases() == {item.pk: claim.token}

    registry.record_heartbeat(name="w@here", pids=[7, 8], **beat)
    type(item).objects.filter(pk=item.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert registry.lost_leases() == {item.pk: claim.token}
