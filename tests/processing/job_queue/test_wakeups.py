"""Wake-ups: counted in, ended, lost and sent again; and owners that take turns."""

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


def test_one_wake_up_a_slot_whatever_number_of_jobs(user: User) -> None:
    with_slots(2)
    for n in range(3):
        submit(user, [upload(user, f"{n}-{m}.jpg", seed=10 * n + m) for m in range(3)])
    assert outstanding(user) == 2


def test_no_more_wake_ups_than_items(user: User) -> None:
    with_slots(8)
    submit(user, [upload(user, seed=1)])
    assert outstanding(user) == 1


def test_a_turn_hands_its_wake_up_on_while_work_remains(user: User) -> None:
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


def test_a_silent_lane_with_work_is_found_and_stirred(user: User) -> None:
    with_slots(2)
    submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(3)])
    assert wakeups.find_silent(depth={"cpu": 0}) == []
    age(user, 10)
    assert wakeups.find_silent(depth={"cpu": 0}) == [(user.pk, "cpu")]
    assert wakeups.find_silent(depth={"cpu": 50}) == []  # it may just be waiting for its turn
    assert wakeups.replace_lost(owner_id=user.pk, queue="cpu") == 2
    assert wakeups.find_silent(depth={"cpu": 0}) == []


def test_turns_at_large_pictures_are_not_taken_for_lost(user: User) -> None:
    with_slots(2)
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(6)])
    for _ in range(2):
        assert claims.claim(job=job, slot=registry.this_slot(), slots=2, seconds=1, seconds_per_item=None)
    age(user, 30)
    assert wakeups.replace_lost(owner_id=user.pk, queue="cpu") == 0
    assert outstanding(user) == 2


def test_a_lane_without_work_is_left_alone(user: User) -> None:
    submit(user, [upload(user, seed=1)])
    take_turns(user)
    age(user, 100)
    assert wakeups.find_silent(depth={}) == []


def test_a_lease_is_lost_with_its_slot_its_worker_or_its_time(user: User) -> None:
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(1)])
    slot = registry.Slot("w@here", 7)
    held = claims.claim(job=job, slot=slot, slots=1, seconds=1, seconds_per_item=None)
    assert held is not None
    item = held.items[0]
    beat = {"queues": ["cpu"], "device": "cpu", "started_at": timezone.now()}

    registry.record_heartbeat(name="w@here", pids=[7, 8], **beat)
    assert registry.lost_leases() == {}

    earlier = timezone.now() - timedelta(seconds=3)
    type(item).objects.filter(pk=item.pk).update(started_at=earlier)
    registry.record_heartbeat(name="w@here", pids=[7, 8], **beat)
    assert registry.lost_leases() == {}
    registry.record_heartbeat(name="w@here", pids=[8], **beat)
    assert registry.lost_leases() == {item.pk: held.token}

    registry.record_heartbeat(name="w@here", pids=[7, 8], **beat)
    type(item).objects.filter(pk=item.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert registry.lost_leases() == {item.pk: held.token}
