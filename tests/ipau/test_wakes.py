"""Wake-ups that are sent once for many rows."""

from uuid import uuid4

import pytest
import redis
from django.conf import settings
from django.db import transaction
from pytest_django import Settings

from accounts.models import User
from drive import tasks
from drive.models import File, FileState
from ipau.common.tasks import wake_once
from tests.drive.drives import upload

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
