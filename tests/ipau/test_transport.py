"""Tests of the Celery broker transport."""

from ipau.celery import app
from ipau.celery_transport import Transport


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
