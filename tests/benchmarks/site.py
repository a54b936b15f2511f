"""A whole site for benchmarks: embedded services, workers and web server in their own folder."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import django

from ipau import embedded

# Of the models that the demo installs.
DETECTOR = "shapes-detector"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@contextlib.contextmanager
def running(*, slots: int = 2, preview: bool = False, web_port: int = 0, include: str = "") -> Iterator[Path]:
    """Start everything with production settings, set Django up in this process, stop it all afterwards.

    Args:
        include: a module that the CPU worker is to import too.
    """
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
                IPAU_PREVIEW_RATE="100000/min",
                DJANGO_SETTINGS_MODULE="ipau.settings",
            )
            django.setup()
            _migrate()
            with contextlib.ExitStack() as stack:
                stack.enter_context(_worker("cpu", "cpu,background,convert", slots, include))
                if preview:
                    stack.enter_context(_worker("preview", "preview", 1))
                if web_port:
                    # Before the server starts: it looks only once at what there is.
                    collect_static()
                    stack.enter_context(_web(web_port))
                _wait_for_workers(2 if preview else 1)
                yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _migrate() -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def collect_static() -> None:
    """Put styles and scripts where pages refer to them."""
    from django.core.management import call_command

    call_command("collectstatic", interactive=False, verbosity=0)


@contextlib.contextmanager
def _worker(name: str, queues: str, slots: int, include: str = "") -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "ipau", "worker", "-n", f"{name}@bench", "-Q", queues]
    command += ["-c", str(slots), "--loglevel", "WARNING", *(["-I", include] if include else [])]
    with _process(command):
        yield


@contextlib.contextmanager
def _web(port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "gunicorn", "ipau.wsgi", "-c", "python:ipau.gunicorn"]
    with _process([*command, "--bind", f"127.0.0.1:{port}", "--log-level", "warning"]):
        yield


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for_workers(number: int) -> None:
    from processing.fleet import registry

    ends = time.monotonic() + 60
    while registry.alive().count() < number:
        if time.monotonic() > ends:
            raise RuntimeError("The workers did not start within a minute.")
        time.sleep(0.1)


def install_model() -> Any:
    """Publish the detector of the demo; return its version."""
    from accounts.models import PLATFORM_HANDLE, User
    from ipau.demo import MODELS
    from market.weights import install

    folder = MODELS / DETECTOR
    platform = User.objects.get(handle=PLATFORM_HANDLE)
    words = json.loads((folder / "card.json").read_text())
    return install.install_model(owner=platform, folder=folder / "model", name=DETECTOR, **words)


def fill_drive(paths: Sequence[Path]) -> list[Any]:
    """Upload pictures for a new person; return their files once workers have checked them all."""
    from accounts.models import User
    from drive.models import File, FileState
    from drive.uploads import services as uploads_services

    owner = User.objects.create_user("bench@example.org")
    for path in paths:
        data = path.read_bytes()
        uploads_services.upload_file(
            owner=owner, folder=None, name=path.name, content=io.BytesIO(data), size=len(data)
        )
    while File.objects.filter(state=FileState.UPLOADED).exists():
        time.sleep(0.2)
    return list(File.objects.filter(owner=owner, folder=None).select_related("blob", "owner").order_by("id"))
