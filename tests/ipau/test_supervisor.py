"""Tests of the supervisor with real processes: restart, give up, stop."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import environ
import psycopg
import pytest
import redis
from django.conf import settings

from ipau.embedded import Services, running
from ipau.embedded.watchdog import Watchdog, is_alive, wait_gone
from ipau.supervisor import Site, SiteError
from ipau.supervisor import child as child_module
from ipau.supervisor import site as site_module
from ipau.supervisor.child import Child, Program
from ipau.supervisor.programs import Address, ProgramOptions, environment, programs

ROOT = Path(__file__).parents[2]
SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
# Ignores the polite signal, and has a child that does so too.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    guard = Watchdog()
    yield guard
    guard.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(child_module, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(site_module, "FIRST_PAUSE", 0.2)


def make(watchdog: Watchdog, folder: Path, code: str, *, seconds: float = 5, name: str = "a") -> Child:
    program = Program(
        name=name,
        command=[sys.executable, "-I", "-S", "-c", code],
        env=dict(os.environ),
        stop_signal=signal.SIGTERM,
        stop_seconds=seconds,
        stage=0,
    )
    return Child(program, folder / f"{name}.log", watchdog, echo=False)


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def tend_until(child: Child, done: str, seconds: float = 20) -> list[str]:
    """Tend until the child's output holds `done`; return what was said."""
    said = []
    until = time.monotonic() + seconds
    while done not in child.last_lines:
        assert time.monotonic() < until
        said.append(child.tend())
        time.sleep(0.01)
    return [line for line in said if line]


def tend_for(site: Site, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        site.tend()
        time.sleep(0.005)


def test_starts_a_dead_program_again(watchdog: Watchdog, tmp_path: Path) -> None:
    child = make(watchdog, tmp_path, SLEEPER)
    child.start()
    tend_until(child, "up")
    first = pid_of(child)
    os.kill(first, signal.SIGKILL)
    child.last_lines.clear()
    said = tend_until(child, "up")
    assert said == ["a was killed by signal 9; restarting it in 0.01 s"]
    assert pid_of(child) != first
    assert (tmp_path / "a.log").read_text() == "up\nup\n"
    child.ask_to_stop()
    child.stop(5)
    assert child.process is None


def test_gives_up_after_five_quick_deaths(watchdog: Watchdog, tmp_path: Path) -> None:
    site = site_of(watchdog, tmp_path)
    site.children = [make(watchdog, tmp_path, "raise SystemExit('no such table')")]
    with pytest.raises(SiteError, match=r"'a' died 5 times in a row(?s:.*)no such table"):
        tend_for(site, 10)


def test_stop_kills_a_stubborn_program_and_its_children(watchdog: Watchdog, tmp_path: Path) -> None:
    site = site_of(watchdog, tmp_path)
    child = make(watchdog, tmp_path, STUBBORN, seconds=0.2)
    site.children = [child]
    child.start()
    until = time.monotonic() + 10
    while not child.last_lines:
        assert time.monotonic() < until
        time.sleep(0.01)
    pids = [pid_of(child), int(child.last_lines[0])]
    site.stop()
    assert wait_gone(pids, 5)


def test_a_second_signal_hastens_the_stop(watchdog: Watchdog, tmp_path: Path) -> None:
    site = site_of(watchdog, tmp_path)
    child = make(watchdog, tmp_path, STUBBORN, seconds=60)
    site.children = [child]
    child.start()
    site.hurry()
    began = time.monotonic()
    site.stop()
    assert time.monotonic() - began < 5


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from ipau.embedded.watchdog import Watchdog\n"
        "from tests.ipau.test_supervisor import SLEEPER, make\n"
        "child = make(Watchdog(), Path(sys.argv[1]), SLEEPER)\n"
        "child.start(); print(child.process.pid, flush=True); time.sleep(60)"
    )
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    holder = subprocess.Popen(
        [sys.executable, "-c", "import django; django.setup()\n" + code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=env,
    )
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    assert is_alive(pid)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert wait_gone([pid], 10)


def test_every_program_knows_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IPAU_BASE_URL", raising=False)
    monkeypatch.delenv("ALLOWED_HOSTS", raising=False)
    # Which the run of the tests sets too.
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    plan = ProgramOptions(address=Address("0.0.0.0", 8123), data_dir=tmp_path, slots=3, soft_seconds=20)
    env = environment(plan)
    assert env["IPAU_BASE_URL"] == "http://127.0.0.1:8123"
    assert env["OMP_NUM_THREADS"] == "1"
    assert "127.0.0.1" in env["ALLOWED_HOSTS"].split(",")
    names = [program.name for program in programs(plan)]
    assert names == ["web", "cpu", "preview", "background", "convert", "beat"]
    monkeypatch.setenv("IPAU_BASE_URL", "https://example.org")
    assert environment(plan)["IPAU_BASE_URL"] == "https://example.org"


def test_addresses() -> None:
    assert Address("::1", 80).url == "http://[::1]:80"
    assert Address("::", 80).bind == "[::]:80"


@pytest.mark.parametrize(
    ("host", "proxies", "is_said"),
    [
        ("127.0.0.1", 0, False),
        ("::1", 0, False),
        ("0.0.0.0", 0, True),
        ("10.0.0.5", 0, True),
        ("::", 1, False),
    ],
)
def test_who_opens_the_site_to_a_network_is_told_of_nginx(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    watchdog: Watchdog,
    host: str,
    proxies: int,
    is_said: bool,
) -> None:
    monkeypatch.setattr(settings, "ALLAUTH_TRUSTED_PROXY_COUNT", proxies)
    monkeypatch.setattr(site_module, "programs", lambda _plan: [])
    plan = ProgramOptions(address=Address(host, 8123), data_dir=tmp_path, slots=1, soft_seconds=1)
    Site(plan, Services(data_dir=tmp_path, watchdog=watchdog)).start()
    lines = [line for line in capsys.readouterr().out.splitlines() if "trusted network" in line]
    assert len(lines) == is_said
    assert all("docs/how-to/nginx.md" in line for line in lines)


def test_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SiteError, match=r"address already in use.*--port"):
            site_module.check_port(Address("127.0.0.1", port))


def site_of(watchdog: Watchdog, folder: Path) -> Site:
    plan = ProgramOptions(address=Address("127.0.0.1", 1), data_dir=folder, slots=1, soft_seconds=1)
    return Site(plan, Services(data_dir=folder, watchdog=watchdog), echo=False)


def test_a_killed_service_comes_back_at_its_address() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ipau-t-") as folder,
        running(Path(folder), unsafe=True) as services,
    ):
        plan = ProgramOptions(address=Address("127.0.0.1", 1), data_dir=Path(folder), slots=1, soft_seconds=1)
        site = Site(plan, services, echo=False)
        for server in services.servers:
            assert server.process is not None
            server.process.kill()
            server.process.wait()
        until = time.monotonic() + 30
        while not (database_answers(services.database_url or "") and redis_answers(services.redis_url or "")):
            assert time.monotonic() < until
            site.tend()
            time.sleep(0.02)


def database_answers(url: str) -> bool:
    found = environ.Env.db_url_config(url)
    try:
        psycopg.connect(dbname=found["NAME"], user=found["USER"], **found["OPTIONS"]).close()
    except psycopg.OperationalError:
        return False
    return True


def redis_answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def test_what_ran_for_long_is_started_again_at_once(
    watchdog: Watchdog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipau.supervisor.child.QUICK_SECONDS", 0.0)
    one = make(watchdog, tmp_path, SLEEPER)
    one.start()
    assert one.process is not None
    os.kill(one.process.pid, signal.SIGKILL)
    one.process.wait()
    assert one.tend() == "a was killed by signal 9; restarting it in 0 s"
    # The next look starts it.
    assert one.process is None
    one.tend()
    assert one.process is not None
    one.ask_to_stop()
    one.stop(5)


@pytest.mark.parametrize("ended_by", ["time", "stop"])
def test_processes_of_a_killed_program_go_on_for_a_while(
    watchdog: Watchdog, tmp_path: Path, ended_by: str
) -> None:
    child = make(watchdog, tmp_path, STUBBORN)
    child.program = replace(child.program, orphan_seconds=1.0 if ended_by == "time" else 60.0)
    child.start()
    until = time.monotonic() + 10
    while not child.last_lines:
        assert time.monotonic() < until
        time.sleep(0.01)
    first, orphan = pid_of(child), int(child.last_lines.popleft())
    os.kill(first, signal.SIGKILL)
    while not child.last_lines:
        child.tend()
        time.sleep(0.01)
    assert pid_of(child) != first
    assert is_alive(orphan)
    if ended_by == "time":
        while is_alive(orphan):
            child.tend()
            assert time.monotonic() < until
            time.sleep(0.05)
    child.ask_to_stop()
    child.stop(0)
    assert wait_gone([orphan], 5)
