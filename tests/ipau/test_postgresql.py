"""Tests of the health check of idle database connections."""

from collections.abc import Iterator

import pytest
from django.db import connection, connections
from pytest_django import DjangoAssertNumQueries

from accounts.models import User
from ipau.common.postgresql.prepared_queries import PreparedQuery

pytestmark = pytest.mark.django_db(transaction=True)

anybody = PreparedQuery(lambda handle: User.objects.filter(handle=handle), handle=str)


@pytest.fixture(autouse=True)
def _connected() -> Iterator[None]:
    connection.ensure_connection()
    yield
    connection.close()


def end_connection() -> None:
    """End this thread's connection from another one, as a server that stops does."""
    other = connections["default"].copy()
    try:
        with other.cursor() as cursor:
            pid = connection.connection.info.backend_pid
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            assert cursor.fetchone() == (True,)
    finally:
        other.close()


def begin_request() -> None:
    """As Django does before a request uses the connection."""
    connection.health_check_enabled = True
    connection.health_check_done = False


def test_a_good_one_is_asked_nothing(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0):
        assert connection.is_usable()


def test_one_that_was_ended_is_known() -> None:
    end_connection()
    assert not connection.is_usable()


def test_what_the_server_says_meanwhile_does_no_harm() -> None:
    with connection.cursor() as cursor:
        cursor.execute("LISTEN channel")
    other = connections["default"].copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("NOTIFY channel")
        assert connection.is_usable()
    finally:
        other.close()
        connection.close()


def test_a_request_after_a_restart_connects_again() -> None:
    end_connection()
    begin_request()
    assert User.objects.filter(handle="nobody").first() is None
    end_connection()
    begin_request()
    assert anybody.first(handle="nobody") is None


def test_a_closed_one_is_not_usable() -> None:
    connection.close()
    assert not connection.is_usable()
