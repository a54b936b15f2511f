"""Tests of a killed web server: no connection is refused while it restarts."""

import http.client
import os
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ipau.embedded.watchdog import Watchdog, is_alive
from ipau.supervisor import listening
from ipau.supervisor.child import Child
from ipau.supervisor.programs import Address, ProgramOptions, programs
from tests.faults.services import children
from tests.ipau.web_server import free_port

pytestmark = pytest.mark.django_db(transaction=True)
# How long a web server may take to start on a busy machine.
START_SECONDS = 60.0


class Visitor:
    """Asks again and again, each time on a connection of its own, and notes what comes of it."""

    def __init__(self, port: int):
        self._port = port
        self._ended = threading.Event()
        self.refused = 0
        self.broken = 0
        self.answered: list[float] = []
        """When answers came."""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_SECONDS)
            try:
                client.request("GET", "/healthz")
                if client.getresponse().status == 200:
                    self.answered.append(time.monotonic())
            except ConnectionRefusedError:
                self.refused += 1
            except (OSError, http.client.HTTPException):
                self.broken += 1
            finally:
                client.close()

    def longest_gap(self, since: float) -> float:
        """Return for how many seconds no answer came at most."""
        times = [since, *(at for at in self.answered if at > since)]
        return max(later - earlier for earlier, later in pairwise(times))

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


class Web:
    """The web server of a site, tended as `./manage.py up` tends it."""

    def __init__(self, child: Child):
        self.child = child
        child.start()

    @property
    def master(self) -> int:
        assert self.child.process is not None
        return self.child.process.pid

    def tend_until_answered(self, visitor: Visitor, after: float) -> float:
        """Tend the server until an answer has come later than `after`; return when it came."""
        ends = time.monotonic() + START_SECONDS
        while not visitor.answered or visitor.answered[-1] < after:
            self.child.tend()
            assert time.monotonic() < ends, list(self.child.last_lines)
            time.sleep(0.05)
        return visitor.answered[-1]


@pytest.fixture
def web(
    process_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Web, Visitor]]:
    for name in ("DATABASE_URL", "DJANGO_SETTINGS_MODULE"):
        monkeypatch.setenv(name, process_env[name])
    monkeypatch.setenv("IPAU_WEB_WORKERS", "2")
    address = Address("127.0.0.1", free_port())
    watchdog = Watchdog()
    with listening.listen(address) as listener:
        plan = ProgramOptions(
            address=address, data_dir=tmp_path, slots=1, soft_seconds=1, listener=listener.fileno()
        )
        child = Child(programs(plan)[0], tmp_path / "web.log", watchdog, echo=False)
        made = Web(child)
        visitor = Visitor(address.port)
        try:
            made.tend_until_answered(visitor, 0)
            yield made, visitor
        finally:
            visitor.end()
            child.ask_to_stop()
            child.stop(12)
            watchdog.close()


@pytest.mark.long
def test_nobody_is_refused_while_a_web_server_comes_back(web: tuple[Web, Visitor]) -> None:
    server, visitor = web
    assert visitor.refused == 0
    # Even those who came before it answered for the first time have waited.
    assert visitor.broken == 0

    first, orphans = server.master, children(server.master)
    os.kill(first, signal.SIGKILL)
    killed = time.monotonic()
    # Its workers serve on until those of another master have come, and end then.
    server.tend_until_answered(visitor, killed + 1.0)
    ends = time.monotonic() + START_SECONDS
    while any(map(is_alive, orphans)):
        server.child.tend()
        assert time.monotonic() < ends
        time.sleep(0.05)
    server.tend_until_answered(visitor, time.monotonic())
    assert server.master != first
    assert (visitor.refused, visitor.broken) == (0, 0)
    assert visitor.longest_gap(killed - 0.5) < 3

    # One worker alone: the other one goes on, and the master starts a third.
    broken = visitor.broken
    one = children(server.master)[0]
    os.kill(one, signal.SIGKILL)
    killed = time.monotonic()
    assert server.tend_until_answered(visitor, killed + 0.2) - killed < 5
    assert (visitor.refused, visitor.broken - broken <= 1) == (0, True)

    # A graceful restart: all workers are replaced.
    broken, old = visitor.broken, set(children(server.master))
    os.kill(server.master, signal.SIGHUP)
    ends = time.monotonic() + START_SECONDS
    while set(children(server.master)) & old:
        assert time.monotonic() < ends
        time.sleep(0.05)
    server.tend_until_answered(visitor, time.monotonic())
    assert (visitor.refused, visitor.broken - broken) == (0, 0)
