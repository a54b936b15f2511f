"""What all tests share: people, clients, and the environment for processes they start."""

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

# The same examples in each run, so that what fails has been changed. To search further, now and then:
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
    """Begin with what takes longest: as the last of a run it would keep one process, and the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let garbage collections pass over what stays for the whole run: each would take a good second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    """Rate limits and cached previews of one test are not those of the next."""
    cache.clear()


@pytest.fixture(autouse=True)
def _own_pillow() -> Iterator[None]:
    """Give Pillow its own `open` back: ultralytics puts another there, in the product only in the sandbox."""
    yield
    Image.open = _open_picture


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """A library that makes this process a real-time one would starve the machine of all else."""
    yield
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Keep the rows that migrations made, for the end of each test that commits."""
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
    """Return a browser in which somebody is signed in: `client_of(user)`."""

    def signed_in(person: User) -> Client:
        client = Client()
        client.force_login(person, backend="allauth.account.auth_backends.AuthenticationBackend")
        return client

    return signed_in


@pytest.fixture
def api(db: None) -> Callable[..., APIClient]:
    """Return an API client with a key: `api(user)` or `api(user, ["read"])`."""

    def keyed(person: User, scopes: Iterable[str] | None = None) -> APIClient:
        key = create_api_key(user=person, name="test", scopes=None if scopes is None else list(scopes))
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key.secret}")
        return client

    return keyed


@pytest.fixture
def process_env(db: None) -> dict[str, str]:
    """Return the environment for a process (a worker, a server) that shall use this test's database.

    The process sees only what is committed: such tests need `transactional_db`.
    """
    return {**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "tests.settings"}


def database_url() -> str:
    """Return the address of the database that this test process uses."""
    found = connection.settings_dict
    who = quote(found["USER"], safe="")
    if found["PASSWORD"]:
        who += ":" + quote(found["PASSWORD"], safe="")
    port = f":{found['PORT']}" if found["PORT"] else ""
    url = f"postgres://{who}@{found['HOST']}{port}/{quote(str(found['NAME']), safe='')}"
    host = found["OPTIONS"].get("host")
    return f"{url}?host={quote(host, safe='')}" if host else url
