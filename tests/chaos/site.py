"""Site under test: own services and workers, production settings, a short heartbeat."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import django
import psycopg
import redis

from ipau import embedded
from tests.faults.services import OwnServer

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 3
SLOTS = 2
START_SECONDS = 120
INCLUDE = "tests.processing.worker_with_crashing_operation,tests.chaos.slowness"


@dataclass
class Worker:
    """A worker's main process, which leads the group of its slots."""

    name: str
    process: subprocess.Popen[bytes]

    def signal(self, number: int) -> None:
        """Send a signal to it and all its slots."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@dataclass
class Site:
    """What runs, in `folder`."""

    folder: Path
    database_url: str
    postgres: OwnServer
    valkey: OwnServer
    workers: list[Worker] = field(default_factory=list)
    # Those whose main process was struck; slots of theirs may live on.
    former: list[Worker] = field(default_factory=list)

    def start_worker(self) -> Worker:
        """Start another worker; does not wait for it."""
        name = f"w{len(self.workers) + len(self.former) + 1}@chaos"
        options = ["-n", name, "-Q", "cpu,background,convert", "-c", str(SLOTS), "-I", INCLUDE]
        worker = Worker(name, self._celery("worker", *options, log=name))
        self.workers.append(worker)
        return worker

    def replace(self, worker: Worker) -> None:
        """Start another worker for one that is gone or going."""
        self.workers.remove(worker)
        self.former.append(worker)
        self.start_worker()

    def keep_logs(self) -> None:
        """Keep what workers wrote, and say where."""
        kept = tempfile.mkdtemp(prefix="ipau-chaos-logs-")
        shutil.copytree(self.folder / "logs", kept, dirs_exist_ok=True)
        print(f"  logs     {kept}")

    def wait_for_workers(self) -> None:
        """Return when all workers have begun to beat."""
        from processing.fleet import registry

        ends = time.monotonic() + START_SECONDS
        while registry.alive().count() < WORKERS:
            if time.monotonic() > ends:
                self.keep_logs()
                raise RuntimeError(f"The workers did not start within {START_SECONDS} s.")
            time.sleep(0.1)

    def start_beat(self) -> subprocess.Popen[bytes]:
        return self._celery("beat", "-s", str(self.folder / "beat"), log="beat")

    def _celery(self, *words: str, log: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "ipau", *words, "-l", "INFO"]
        with (self.folder / "logs" / f"{log}.log").open("wb") as out:
            return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)


@contextlib.contextmanager
def running() -> Iterator[Site]:
    """Start everything, set Django up in this process, end it all afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ipau-chaos-"))
    folder.chmod(0o711)
    try:
        # Valkey keeps nothing on disk: killing it loses every message.
        with embedded.running(folder, unsafe=True) as services:
            os.environ.update(
                IPAU_DATA=str(folder),
                DATABASE_URL=str(services.database_url),
                REDIS_URL=str(services.redis_url),
                SECRET_KEY="chaos",
                IPAU_LOG_LEVEL="WARNING",
                IPAU_HEARTBEAT_SECONDS="1",
                IPAU_ITEM_SECONDS="10",
                IPAU_NETWORK_LEAST_SECONDS="2",
                DJANGO_SETTINGS_MODULE="ipau.settings",
                CELERY_SKIP_CHECKS="1",
            )
            django.setup()
            _migrate()
            with _processes(_site(folder, services)) as site:
                yield site
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _migrate() -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def _site(folder: Path, services: embedded.Services) -> Site:
    database, broker = str(services.database_url), str(services.redis_url)
    postgres, valkey = services.servers
    client = redis.Redis.from_url(broker)
    return Site(
        folder,
        database,
        OwnServer(postgres, {}, lambda: psycopg.connect(database).close()),
        OwnServer(valkey, {}, client.ping),
    )


@contextlib.contextmanager
def _processes(site: Site) -> Iterator[Site]:
    beat = site.start_beat()
    try:
        for _ in range(WORKERS):
            site.start_worker()
        yield site
    finally:
        for worker in site.workers + site.former:
            worker.signal(signal.SIGKILL)
            worker.process.wait()
        beat.terminate()
        beat.wait()
