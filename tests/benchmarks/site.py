"""A whole site to measure: private services, workers and web server in a folder of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import django

from ipau import embedded

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@contextlib.contextmanager
def running(*, slots: int = 2, preview: bool = False) -> Iterator[Path]:
    """Start everything with production settings, set Django up in this process, stop it all afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ipau-bench-"))
    folder.chmod(0o711)
    try:
        with embedded.running(folder) as services:
            os.environ.update(
                ONE_THREAD,
                IPAU_DATA=str(folder),
                DATABASE_URL=str(services.database_url),
                REDIS_URL=str(services.redis_url),
                SECRET_KEY="bench",
                IPAU_LOG_LEVEL="WARNING",
                DJANGO_SETTINGS_MODULE="ipau.settings",
            )
            django.setup()
            _migrate()
            with contextlib.ExitStack() as stack:
                stack.enter_context(_worker("cpu", "cpu,convert", slots))
                if preview:
                    stack.enter_context(_worker("preview", "preview", 1))
                _wait_for_workers(2 if preview else 1)
                yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _migrate() -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


@contextlib.contextmanager
def _worker(name: str, queues: str, slots: int) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "ipau", "worker", "-n", f"{name}@bench", "-Q", queues]
    process = subprocess.Popen([*command, "-c", str(slots), "--loglevel", "WARNING"])
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for_workers(number: int) -> None:
    from processing import fleet

    ends = time.monotonic() + 60
    while fleet.alive().count() < number:
        if time.monotonic() > ends:
            raise RuntimeError("The workers did not start within a minute.")
        time.sleep(0.1)
