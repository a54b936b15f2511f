"""What `up` does before it serves: in which order, and that it repeats only what has changed."""

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from pytest_django import Settings

from ipau import embedded
from ipau.embedded import EmbeddedError, Services, bytecode, services
from ipau.supervisor import prepare, site
from ipau.supervisor.programs import Address
from tests.ipau.web_server import free_port

SECONDS = 20


def returns(value: Any) -> Callable[..., Any]:
    """Return a function that takes anything and returns `value`."""

    def function(*args: Any, **options: Any) -> Any:
        return value

    return function


class FakeServer:
    """A server that notes whether it was stopped."""

    def __init__(self, name: str):
        self.name, self.url, self.stopped = name, f"{name}://", False

    def stop(self) -> None:
        self.stopped = True


def test_postgresql_and_valkey_start_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=SECONDS)
    made: list[FakeServer] = []

    def starts(name: str) -> Callable[..., FakeServer]:
        def start(*args: Any, **options: Any) -> FakeServer:
            both.wait()
            made.append(FakeServer(name))
            return made[-1]

        return start

    monkeypatch.setattr(services.postgres, "start", starts("postgresql"))
    monkeypatch.setattr(services.valkey, "start", starts("valkey"))
    with embedded.running(tmp_path / "data") as running:
        assert [server.name for server in running.servers] == ["postgresql", "valkey"]
        assert (running.database_url, running.redis_url) == ("postgresql://", "valkey://")
        assert not any(server.stopped for server in made)
    assert all(server.stopped for server in made)


@pytest.mark.parametrize("failing", ["postgres", "valkey"])
def test_where_one_service_does_not_start_the_other_one_is_stopped(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FakeServer("other")

    def fail(*args: Any, **options: Any) -> FakeServer:
        raise EmbeddedError("No room.")

    for name in ("postgres", "valkey"):
        start = fail if name == failing else returns(other)
        monkeypatch.setattr(getattr(services, name), "start", start)
    with pytest.raises(EmbeddedError, match="No room"), embedded.running(tmp_path / "data"):
        pytest.fail("it runs")
    assert other.stopped


def test_programs_start_when_tables_and_static_files_are_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.DATA_DIR = tmp_path
    done: list[str] = []

    @contextmanager
    def running(data_dir: Path, **options: Any) -> Iterator[Services]:
        done.append("services")
        yield SimpleNamespace(servers=[], announce=returns(None))  # type: ignore[misc]
        done.append("end of services")

    def notes(name: str) -> Callable[..., None]:
        def note(*args: Any) -> None:
            done.append(name)

        return note

    monkeypatch.setattr(site, "running", running)
    monkeypatch.setattr(site, "_check_services", returns(None))
    for name in ("adopt", "adopt_secret_key", "close_data_folder"):
        monkeypatch.setattr(prepare, name, returns(None))
    monkeypatch.setattr(site, "compile_code", notes("compile_code"))
    for name in ("migrate", "collect_static"):
        monkeypatch.setattr(prepare, name, notes(name))
    monkeypatch.setattr(site.Site, "start", notes("programs"))
    with site.site_running(Address("127.0.0.1", free_port())):
        done.append("runs")
    steps = ["compile_code", "services", "migrate", "collect_static", "programs"]
    assert done == [*steps, "runs", "end of services"]


@pytest.mark.django_db
def test_an_upgrade_with_a_new_migration_is_migrated() -> None:
    executor = MigrationExecutor(connection)
    # The last migration of this app can be reversed.
    *_, before, newest = sorted(node for node in executor.loader.graph.nodes if node[0] == "drive")
    executor.migrate([before])
    assert newest not in MigrationRecorder(connection).applied_migrations()
    prepare.migrate()
    assert newest in MigrationRecorder(connection).applied_migrations()
    executor = MigrationExecutor(connection)
    assert executor.migration_plan(executor.loader.graph.leaf_nodes()) == []


def test_static_files_are_collected_again_when_one_has_changed(tmp_path: Path, settings: Settings) -> None:
    source, data = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    data.mkdir()
    (source / "site.css").write_text("a")
    settings.STATICFILES_DIRS = [source]
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATIC_ROOT = data / "static"
    finders.get_finder.cache_clear()
    try:
        assert prepare.collect_static(data)
        assert not prepare.collect_static(data)
        # Older than what was collected before, as a file of an archive may be.
        (source / "site.css").write_text("bc")
        os.utime(source / "site.css", (0, 0))
        assert prepare.collect_static(data)
        assert (data / "static" / "site.css").read_text() == "bc"
        (source / "more.css").write_text("d")
        assert prepare.collect_static(data)
        assert not prepare.collect_static(data)
        # They were removed.
        (data / "static").rename(data / "gone")
        assert prepare.collect_static(data)
    finally:
        finders.get_finder.cache_clear()


def test_code_is_compiled_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "drive" / "files" / "names.py"
    module.parent.mkdir(parents=True)
    compiled = Path(importlib.util.cache_from_source(str(module)))
    monkeypatch.setattr(bytecode, "CODE", tmp_path)
    module.write_text("first = 1\n")
    bytecode.compile_code()
    before = compiled.read_bytes()
    compiled.touch()
    stamped = compiled.stat().st_mtime_ns
    bytecode.compile_code()
    assert compiled.stat().st_mtime_ns == stamped
    module.write_text("second = 22\n")
    os.utime(module, (0, 0))
    bytecode.compile_code()
    assert b"second" in compiled.read_bytes()
    assert compiled.read_bytes() != before
    # Code that cannot be compiled fails when it is imported.
    module.write_text("def (")
    bytecode.compile_code()


def test_packages_that_are_compiled_are_those_of_the_site() -> None:
    there = {path.parent.name for path in bytecode.CODE.glob("*/__init__.py")}
    assert set(bytecode.PACKAGES) == there - {"tests", "deploy"}
