"""Real Celery workers for tests: `celery_worker(queues="cpu,background,convert,preview", slots=1)`.

A worker sees only committed rows, so tests with a worker need `transactional_db`. The fixture requests it.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processing.models import Worker
from tests.forked_celery import fork_celery

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60


class LiveWorker:
    """A worker process of one test. It is killed with all its slots at the end."""

    def __init__(self, env: dict[str, str], log: Path, *, queues: str, slots: int, include: str = ""):
        self.name = f"test-{uuid.uuid4().hex[:8]}@localhost"
        self.log = log
        options = ["-A", "ipau", "worker", "-Q", queues, "-c", str(slots), "-n", self.name]
        options += ["--without-gossip", "--without-mingle", "-l", "INFO"]
        if include:
            options += ["-I", include]
        # As in the site's workers: Django's checks would load all pages and forms.
        env = {**env, "CELERY_SKIP_CHECKS": "1"}
        self.process = fork_celery(options, env, log) or self._run_celery(options, env)

    def _run_celery(self, options: list[str], env: dict[str, str]) -> "subprocess.Popen[bytes]":
        with self.log.open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "celery", *options],
                cwd=ROOT,
                env=env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_alive(self) -> None:
        """Wait until the first heartbeat is in the database."""
        ends = time.monotonic() + START_SECONDS
        while not Worker.objects.filter(name=self.name).exists():
            if self.process.poll() is not None or time.monotonic() > ends:
                raise AssertionError(f"The worker did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def slot_pids(self) -> list[int]:
        pids: list[int] = Worker.objects.get(name=self.name).slot_pids
        return pids

    def kill(self) -> None:
        """Kill the main process and its slots at once, as a power failure would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def celery_worker(
    transactional_db: None, process_env: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., LiveWorker]]:
    """Start workers: `celery_worker()`, `celery_worker(queues="cpu", slots=2)`. Waits until each is alive.

    `include`: extra module that the worker loads. Other arguments are environment variables.
    """
    started: list[LiveWorker] = []

    def start(
        *, queues: str = "cpu,background,convert,preview", slots: int = 1, include: str = "", **env: str
    ) -> LiveWorker:
        log = tmp_path / f"worker-{len(started)}.log"
        worker = LiveWorker({**process_env, **env}, log, queues=queues, slots=slots, include=include)
        started.append(worker)
        worker.wait_until_alive()
        return worker

    yield start
    # Before the tables are flushed: a slot inside a transaction could deadlock with the flush.
    for worker in started:
        worker.kill()
