"""Tests of the embedded PostgreSQL and Valkey, with real processes."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import environ
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ipau import embedded
from ipau.embedded import services as embedded_services
from ipau.embedded.watchdog import is_alive, wait_gone

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow("starts PostgreSQL and Valkey of its own")
# A process that starts the services, says so and waits.
HOLDER = """
import sys, time
from pathlib import Path
from ipau import embedded
with embedded.running(Path(sys.argv[1]), unsafe=True) as services:
    services.announce()
    print(*[server.process.pid for server in services.servers], services.watchdog.pid, flush=True)
    time.sleep(120)
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Not pytest's own folder: that is private, which is a case of its own.
    folder = Path(tempfile.mkdtemp(prefix="ipau-t-"))
    folder.chmod(0o711)
    yield folder / "data"
    shutil.rmtree(folder)


def hold(data_dir: Path) -> tuple[subprocess.Popen[str], list[int]]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_dir)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdout is not None
    return holder, [int(word) for word in holder.stdout.readline().split()]


def close(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert holder.stdout is not None
    holder.stdout.close()


def connect(url: str) -> psycopg.Connection:
    """Connect the way Django does, with what django-environ makes of the address."""
    found = environ.Env.db_url_config(url)
    return psycopg.connect(dbname=found["NAME"], user=found["USER"], autocommit=True, **found["OPTIONS"])


def start(data_dir: Path) -> None:
    with embedded.running(data_dir, unsafe=True):
        pass


def test_keeps_rows_and_messages_over_a_restart_and_leaves_nothing_running(data_dir: Path) -> None:
    with embedded.running(data_dir) as first:
        pids = [server.process.pid for server in first.servers if server.process]
        with connect(first.database_url or "") as connection:
            connection.execute("CREATE TABLE kept AS SELECT 'ไทย' AS word")
        with redis.Redis.from_url(first.redis_url or "") as client:
            client.lpush("queue", "message")
        first.announce(web_url="http://127.0.0.1:1")
        announced = data_dir / "services.json"
        assert json.loads(announced.read_text())["database_url"] == first.database_url
        assert stat.S_IMODE(announced.stat().st_mode) == 0o600
    assert not announced.exists()
    assert not any(map(is_alive, [*pids, first.watchdog.pid]))
    with embedded.running(data_dir) as second:
        with connect(second.database_url or "") as connection:
            row = connection.execute("SELECT word FROM kept").fetchone()
            assert row is not None
            assert row[0] == "ไทย"
        with redis.Redis.from_url(second.redis_url or "") as client:
            assert client.lrange("queue", 0, -1) == [b"message"]


def test_valkey_wants_its_password_and_postgresql_listens_on_no_port(data_dir: Path) -> None:
    with embedded.running(data_dir, unsafe=True) as services:
        port = int((services.redis_url or "").rpartition(":")[2].partition("/")[0])
        # By itself the client would try again for seconds.
        once = Retry(NoBackoff(), 0)
        with redis.Redis(port=port, retry=once) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with connect(services.database_url or "") as connection:
            row = connection.execute("SHOW listen_addresses").fetchone()
            assert row == ("",)
        assert stat.S_IMODE((data_dir / "run").stat().st_mode) == 0o700


def test_starts_only_what_is_asked_for(data_dir: Path) -> None:
    with embedded.running(data_dir, postgres=False, unsafe=True) as services:
        assert services.database_url is None
        assert services.redis_url
    assert not (data_dir / "pg").exists()


def test_second_start_names_the_first_and_kill_leaves_nothing(data_dir: Path) -> None:
    holder, pids = hold(data_dir)
    try:
        with pytest.raises(embedded.EmbeddedError, match=f"in use by process {holder.pid}"):
            start(data_dir)
    finally:
        close(holder)
    assert wait_gone(pids, 10)
    # What the killed process left announced is not believed by the next one.
    start(data_dir)
    assert not (data_dir / "services.json").exists()


def test_orphans_and_stale_pid_files_do_not_stand_in_the_way(data_dir: Path) -> None:
    holder, (postgres, valkey, watchdog) = hold(data_dir)
    os.kill(watchdog, signal.SIGKILL)
    close(holder)
    time.sleep(0.2)
    assert is_alive(postgres)
    assert is_alive(valkey)
    start(data_dir)
    assert wait_gone([postgres, valkey], 5)
    # After a crash of the machine, the number belongs to another process: this one.
    (data_dir / "pg" / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir / 'pg'}\n")
    start(data_dir)


def test_redoes_an_interrupted_initialisation(data_dir: Path) -> None:
    (data_dir / "pg.new" / "base").mkdir(parents=True)
    (data_dir / "pg.new" / "PG_VERSION").write_text("18\n")
    start(data_dir)
    assert not (data_dir / "pg.new").exists()


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"pg/PG_VERSION": "19\n"}, "contains a database of PostgreSQL 19"),
        ({"pg/holiday.jpg": ""}, "contains files but no database"),
    ],
)
def test_refuses_a_folder_that_is_not_ours(data_dir: Path, files: dict[str, str], sentence: str) -> None:
    for name, text in files.items():
        (data_dir / name).parent.mkdir(parents=True)
        (data_dir / name).write_text(text)
    with pytest.raises(embedded.EmbeddedError, match=sentence) as caught:
        start(data_dir)
    assert "IPAU_DATA" in str(caught.value)


def test_data_folder_that_is_a_file(data_dir: Path) -> None:
    data_dir.write_text("")
    with pytest.raises(embedded.EmbeddedError, match="cannot be used: file exists"):
        start(data_dir)


def test_too_little_space(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_services, "LEAST_FREE_BYTES", 2**60)
    with pytest.raises(embedded.EmbeddedError, match="Free some space"):
        start(data_dir)


def test_private_parent_folder(data_dir: Path) -> None:
    """Root's services run as another account, which a private folder above must not stop."""
    data_dir.parent.chmod(0o700)
    start(data_dir)
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o700


def test_path_too_long_for_a_socket_and_odd_letters(data_dir: Path) -> None:
    long = data_dir / ("long, 'odd' %20 " + "x" * 100)
    with embedded.running(long, unsafe=True) as services:
        connect(services.database_url or "").close()
        sockets = Path(environ.Env.db_url_config(services.database_url)["OPTIONS"]["host"])
        assert sockets.is_dir()
    assert not sockets.exists()


def test_starts_empty_where_the_queue_file_is_broken(data_dir: Path) -> None:
    with embedded.running(data_dir, postgres=False):
        pass
    appended = next((data_dir / "valkey" / "appendonlydir").glob("*.incr.aof"))
    appended.write_text("neither this\r\n*3\r\n$3\r\nSET\r\n")
    with embedded.running(data_dir, postgres=False) as services:
        assert services.redis_url
    assert list((data_dir / "valkey").glob("appendonlydir.broken-*"))
