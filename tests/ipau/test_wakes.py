"""Tests of wake-ups that are sent once for many rows."""

from uuid import UUID, uuid4

import pytest
import redis
from django.conf import settings
from django.db import transaction
from pytest_django import Settings

from accounts.models import User
from drive.models import File, FileState
from drive.uploads import tasks, work
from ipau.common.alone import alone
from ipau.common.tasks import wake_once
from tests.drive.factories import upload

QUEUE = "background"


def queued() -> int:
    """Return how many messages wait for a worker."""
    return int(redis.Redis.from_url(settings.CELERY_BROKER_URL).llen(QUEUE))


@pytest.fixture(autouse=True)
def _empty_queue() -> None:
    redis.Redis.from_url(settings.CELERY_BROKER_URL).delete(QUEUE)


def test_one_is_on_its_way_until_somebody_begins() -> None:
    owner, other = str(uuid4()), str(uuid4())
    for _ in range(5):
        wake_once(tasks.inspect_uploads, owner, seconds=60)
    assert queued() == 1
    wake_once(tasks.inspect_uploads, other, seconds=60)
    assert queued() == 2


@pytest.mark.django_db(transaction=True)
def test_many_uploads_wake_one_worker_which_checks_them_all(user: User) -> None:
    for seed in range(4):
        upload(user, f"{seed}.jpg", seed=seed)
    assert queued() == 1
    tasks.inspect_uploads(str(user.pk))
    assert set(File.objects.values_list("state", flat=True)) == {FileState.READY}
    # What comes after it began to look needs another one.
    upload(user, "late.jpg", seed=9)
    assert queued() == 2


@pytest.mark.django_db(transaction=True)
def test_one_turn_of_an_owner_is_under_way_and_one_more_is_queued(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(user, "first.jpg")
    real, begun = work.inspect_uploads, []

    def look_slowly(owner_id: UUID) -> bool:
        begun.append(owner_id)
        # Meanwhile others come, and each wakes another slot, which leaves them to this one.
        for seed in range(1, 4):
            upload(user, f"{seed}.jpg", seed=seed)
            tasks.inspect_uploads(str(user.pk))
        monkeypatch.setattr(work, "TURN_SECONDS", 0.0)
        return real(owner_id)

    monkeypatch.setattr(work, "inspect_uploads", look_slowly)
    redis.Redis.from_url(settings.CELERY_BROKER_URL).delete(QUEUE)
    tasks.inspect_uploads(str(user.pk))
    assert len(begun) == 1
    assert File.objects.filter(state=FileState.UPLOADED).count() == 3
    # Each upload sent one, which these turns did not take from the queue; the first sent one more.
    assert queued() == 4
    monkeypatch.setattr(work, "inspect_uploads", real)
    monkeypatch.setattr(work, "TURN_SECONDS", 5.0)
    tasks.inspect_uploads(str(user.pk))
    assert set(File.objects.values_list("state", flat=True)) == {FileState.READY}
    assert queued() == 4


def test_who_finds_another_one_under_way_leaves_it_the_work(settings: Settings) -> None:
    with alone("a", seconds=60) as first, alone("a", seconds=60) as second, alone("b", seconds=60) as other:
        assert (first, second, other) == (True, False, True)
    with alone("a", seconds=60) as again:
        assert again
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}
    with alone("a", seconds=60) as first, alone("a", seconds=60) as second:
        assert (first, second) == (True, True)


@pytest.mark.django_db(transaction=True)
def test_what_is_taken_back_wakes_nobody(user: User) -> None:
    with transaction.atomic():
        upload(user)
        transaction.set_rollback(True)
    assert queued() == 0


def test_where_nobody_remembers_every_one_is_sent(settings: Settings) -> None:
    nowhere = {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {"default": nowhere}
    owner = str(uuid4())
    for _ in range(3):
        wake_once(tasks.inspect_uploads, owner, seconds=60)
    assert queued() == 3
