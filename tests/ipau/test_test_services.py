"""The services of the test run itself."""

import os
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from rest_framework.test import APIClient

from accounts.models import User


@pytest.mark.django_db
def test_database_is_a_real_postgresql_of_this_worker() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), version()")
        name, version = cursor.fetchone()
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    assert name == ("test_ipau_" + worker if worker else "test_ipau")
    assert version.startswith("PostgreSQL")


def test_each_worker_has_its_own_redis_database_and_data_folder() -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    number = int(worker.removeprefix("gw")) + 1 if worker != "main" else 0
    assert urlsplit(settings.REDIS_URL).path == f"/{number}"
    assert settings.DATA_DIR.name == worker
    cache.set("here", 1)
    assert cache.get("here") == 1


def test_people_and_clients(user: User, other_user: User, api: Callable[..., APIClient]) -> None:
    assert user.handle != other_user.handle
    assert api(user, ["read"])
