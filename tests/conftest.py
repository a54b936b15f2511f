"""Fixtures of all tests: accounts, clients, and the environment of processes that tests start."""

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from hypothesis import settings as searches
from PIL import Image
from pytest_django import DjangoDbBlocker
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import create_api_key
from tests import slow
from tests.emptying import tables
from tests.factories import UserFactory

_open_picture = Image.open

# Use the same examples in each run, so that a new failure comes from a change. To try new examples:
# pytest --hypothesis-profile=default
searches.register_profile("steady", derandomize=True)
searches.load_profile("steady")

pytest_plugins = ["tests.live", "tests.drive.storage.buckets"]


@pytest.hookimpl(tryfirst=True, specname="pytest_collection_modifyitems")
def pytest_mark_slow_tests(items: list[pytest.Item]) -> None:
    """Mark them before `-m` chooses."""
    slow.mark(items)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first. At the end of a run, one process would run them and the others be idle."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exclude permanent objects from garbage collection. Each full collection would take over a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    """Clear rate limits and cached previews of earlier tests."""
    cache.clear()


@pytest.fixture(autouse=True)
def _own_pillow() -> Iterator[None]:
    """Restore Pillow's `open`, which Ultralytics replaces. The product loads it only in the sandbox."""
    yield
    Image.open = _open_picture


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """Fail if a library gave this process real-time priority, which would starve all other processes."""
    yield
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Save the rows that migrations created. They are restored after each test that commits."""
    with django_db_blocker.unblock():
        tables.keep(connection)


@pytest.fixture
def user(db: None) -> User:
    return UserFactory()


@pytest.fixture
def other_user(db: None) -> User:
    return UserFactory()


@pytest.fixture
def client_of(db: None) -> Callable[[User], Client]:
    """Return a function that returns a signed-in test client: `client_of(user)`."""

    def signed_in(person: User) -> Client:
        client = Client()
        client.force_login(person, backend="allauth.account.auth_backends.AuthenticationBackend")
        return client

    return signed_in


@pytest.fixture
def api(db: None) -> Callable[..., APIClient]:
    """Return a function that returns an API client with a key: `api(user)` or `api(user, ["read"])`."""

    def keyed(person: User, scopes: Iterable[str] | None = None) -> APIClient:
        key = create_api_key(user=person, name="test", scopes=None if scopes is None else list(scopes))
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key.secret}")
        return client

    return keyed


@pytest.fixture
def process_env(db: None) -> dict[str, str]:
    """Return the environment for a process (a worker, a server) that uses this test's database.

    The process sees only committed rows, so such tests need `transactional_db`.
    """
    return {**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"}


def database_url() -> str:
    """Return the URL of the database of this test process."""
    config = connection.settings_dict
    login = quote(config["USER"], safe="")
    if config["PASSWORD"]:
        login += ":" + quote(config["PASSWORD"], safe="")
    port = f":{config['PORT']}" if config["PORT"] else ""
    url = f"postgres://{login}@{config['HOST']}{port}/{quote(str(config['NAME']), safe='')}"
    host = config["OPTIONS"].get("host")
    return f"{url}?host={quote(host, safe='')}" if host else url
