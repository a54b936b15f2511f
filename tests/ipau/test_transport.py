"""The broker's clients."""

import redis
from django.conf import settings

from drive import tasks
from ipau.celery import app
from ipau.common.tasks import wake
from ipau.transport import Transport

QUEUE = "convert"


def test_the_site_uses_it() -> None:
    with app.connection_for_write() as connection:
        assert isinstance(connection.transport, Transport)


def test_a_channel_has_one_client_for_its_pool() -> None:
    with app.connection_for_write() as connection, connection.channel() as channel:
        first = channel._create_client()
        assert channel._create_client() is first
        assert first.ping()
        channel._pool = None
        second = channel._create_client()
        assert second is not first
        assert second.ping()


def test_what_waits_for_messages_has_a_client_of_its_own() -> None:
    with app.connection_for_write() as connection, connection.channel() as channel:
        assert channel._create_client(asynchronous=True) is not channel._create_client()


def test_messages_arrive() -> None:
    queue = redis.Redis.from_url(settings.CELERY_BROKER_URL)
    queue.delete(QUEUE)
    for _ in range(3):
        assert wake(tasks.inspect_uploads, "01890000-0000-7000-8000-000000000000")
    assert queue.llen(QUEUE) == 3
    queue.delete(QUEUE)
