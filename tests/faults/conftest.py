"""Fixtures: services of one test, and workers with injected faults."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from django.conf import settings as current
from django.db import connection
from environ import Env
from pytest_django import Settings

from ipau import embedded
from ipau.celery import app
from ipau.embedded.postgres import find_programs
from processing.fleet import broker
from tests.conftest import database_url
from tests.faults import injected
from tests.faults.services import OwnServer
from tests.live import LiveWorker
from tests.services import REDIS, own_redis


@pytest.fixture
def faulty_worker(celery_worker: Callable[..., LiveWorker]) -> Callable[..., LiveWorker]:
    """Start a worker in which a fault of `tests.faults.injected` strikes: `faulty_worker(NO_ROOM)`."""

    def start(fault: str, **options: object) -> LiveWorker:
        include = "tests.processing.worker_with_crashing_operation,tests.faults.injected"
        return celery_worker(include=include, **{injected.NAME: fault}, **options)

    return start


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder for services, short enough for the name of a socket."""
    path = Path(tempfile.mkdtemp(prefix="ipau-faults-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def valkey(
    transactional_db: None, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OwnServer]:
    """A Valkey that keeps nothing on disk; this process uses it too, and workers do with its `env`."""
    with embedded.running(folder, postgres=False, unsafe=True) as services:
        base = str(services.redis_url)
        url = own_redis(base, os.environ.get("PYTEST_XDIST_WORKER", "main"))
        # Celery first: it reads Django's settings when it is asked, and would keep these.
        monkeypatch.setattr(app.conf, "broker_url", url)
        settings.REDIS_URL = settings.CELERY_BROKER_URL = url
        settings.CACHES = {"default": {**current.CACHES["default"], "LOCATION": url}}
        monkeypatch.setattr(app.amqp, "_producer_pool", None)
        broker._broker.cache_clear()
        with redis.Redis.from_url(url) as client:
            yield OwnServer(services.servers[0], {REDIS: base}, client.ping)
        app.amqp.producer_pool.force_close_all()
        broker._broker().close()
        broker._broker.cache_clear()


@pytest.fixture
def postgres(transactional_db: None, folder: Path) -> Iterator[OwnServer]:
    """A PostgreSQL with a copy of this test's database; this process uses it too."""
    with embedded.running(folder, valkey=False, unsafe=True) as services:
        server, url = services.servers[0], str(services.database_url)
        _copy_database(database_url(), url)
        connection.close()
        shared = dict(connection.settings_dict)
        own = Env.db_url_config(url)
        connection.settings_dict.update({**own, "OPTIONS": {**shared["OPTIONS"], **own["OPTIONS"]}})
        try:
            yield OwnServer(server, {"DATABASE_URL": url}, lambda: psycopg.connect(url).close())
        finally:
            connection.close()
            connection.settings_dict.update(shared)


def _copy_database(source: str, target: str) -> None:
    # Where the server runs from a copy of the package's programs, its clients are not among them.
    programs = find_programs() / "bin"
    dump = [programs / "pg_dump", "--no-owner", "--dbname", source]
    dumped = subprocess.run(dump, check=True, stdout=subprocess.PIPE).stdout
    load = [programs / "psql", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", target]
    subprocess.run(load, check=True, input=dumped, stdout=subprocess.DEVNULL)
