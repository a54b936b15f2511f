"""Faults: processes that die or freeze, services that lose data, broken connections."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random

import psycopg
import redis

from tests.chaos.site import Site, Worker
from tests.faults.services import children

# Seconds between two faults: from … to.
PAUSE = (0.1, 1.2)
# Workers beat every second here and are taken for dead after three: some of these pauses outlast that.
STANDSTILL = (1.0, 8.0)
# In a run of a minute or more, some of these outlast the time that clients wait for an answer.
SERVICE_STANDSTILL = (0.5, 20.0)
SHORT_STANDSTILL = (0.5, 3.0)
LONG_RUN = 60.0
DOWN = (0.2, 3.0)


class Faults:
    """Strikes one after another; `done` counts them by kind."""

    def __init__(self, choice: Random, site: Site):
        self.done: Counter[str] = Counter()
        self._choice = choice
        self._site = site
        self._standstill = SHORT_STANDSTILL
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "slot killed": (5, self._kill_slot),
            "worker killed": (2, self._kill_worker),
            "main process killed": (1, self._kill_main),
            "worker told to stop": (1, self._stop_worker),
            "worker stood still": (3, self._freeze_worker),
            "Valkey flushed": (2, self._flush_valkey),
            "Valkey killed": (1, self._kill_valkey),
            "Valkey stood still": (1, self._freeze_valkey),
            "connections cut": (4, self._cut_connections),
            "PostgreSQL stood still": (1, self._freeze_postgres),
            "PostgreSQL restarted": (1, self._restart_postgres),
        }

    def strike(self, seconds: float) -> None:
        """Strike for so long."""
        self._standstill = SERVICE_STANDSTILL if seconds >= LONG_RUN else SHORT_STANDSTILL
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            names = list(self._kinds)
            (name,) = self._choice.choices(names, [self._kinds[n][0] for n in names])
            self._kinds[name][1]()
            self.done[name] += 1
            self._wait(self._choice.uniform(*PAUSE))

    def calm(self) -> None:
        """End what still stands still, and have every worker that belongs there."""
        for _, undo in self._later:
            undo()
        self._later.clear()
        for worker in list(self._site.workers):
            if worker.process.poll() is not None:
                self._site.replace(worker)

    def _wait(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            due = [entry for entry in self._later if entry[0] < time.monotonic()]
            for entry in due:
                self._later.remove(entry)
                entry[1]()
            time.sleep(0.05)

    def _after(self, span: tuple[float, float], undo: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + self._choice.uniform(*span), undo))

    def _any_worker(self) -> Worker:
        return self._choice.choice(self._site.workers)

    # --- Workers.

    def _kill_slot(self) -> None:
        worker = self._any_worker()
        with suppress(FileNotFoundError, ProcessLookupError, IndexError):
            os.kill(self._choice.choice(children(worker.process.pid)), signal.SIGKILL)

    def _kill_worker(self) -> None:
        worker = self._any_worker()
        worker.signal(signal.SIGKILL)
        self._site.replace(worker)

    def _kill_main(self) -> None:
        """Its slots live on for a while, and may finish what they hold."""
        worker = self._any_worker()
        worker.process.kill()
        self._site.replace(worker)

    def _stop_worker(self) -> None:
        worker = self._any_worker()
        worker.process.terminate()
        self._site.replace(worker)

    def _freeze_worker(self) -> None:
        worker = self._any_worker()
        worker.signal(signal.SIGSTOP)
        self._after(STANDSTILL, lambda: worker.signal(signal.SIGCONT))

    # --- Services.

    def _flush_valkey(self) -> None:
        with suppress(redis.RedisError), redis.Redis.from_url(self._site.valkey.server.url) as client:
            client.flushall()

    def _kill_valkey(self) -> None:
        self._site.valkey.kill()
        self._wait(self._choice.uniform(*DOWN))
        self._site.valkey.start()

    def _freeze_valkey(self) -> None:
        self._site.valkey.freeze()
        self._wait(self._choice.uniform(*self._standstill))
        self._site.valkey.thaw()

    def _cut_connections(self) -> None:
        with psycopg.connect(self._site.database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def _freeze_postgres(self) -> None:
        self._site.postgres.freeze()
        self._wait(self._choice.uniform(*self._standstill))
        self._site.postgres.thaw()

    def _restart_postgres(self) -> None:
        self._site.postgres.stop()
        self._wait(self._choice.uniform(*DOWN))
        self._site.postgres.start()
