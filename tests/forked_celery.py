"""Celery workers that are forked from a process which has loaded the site: loading is most of their start.

`python -m celery` would load the same in each process. What a worker does from there on is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

# Variables that nothing reads while the site is loaded.
LATER = {"PYTEST_CURRENT_TEST", "DJANGO_ALLOW_ASYNC_UNSAFE", "POISON_LOG", "IPAU_TEST_FAULT"}
_context = multiprocessing.get_context("forkserver")
# The environment in which the site was loaded.
_loaded_with: dict[str, str] = {}


class ForkedProcess:
    """A process with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, command: Sequence[str], env: dict[str, str], log: Path):
        self._process = _context.Process(target=become_celery, args=(list(command), env, log))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("celery", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def fork_celery(command: Sequence[str], env: Mapping[str, str], log: Path) -> ForkedProcess | None:
    """Return `celery` with these words, in a session of its own; None where the site has other settings."""
    wanted = dict(env)
    if not _loaded_with:
        _loaded_with.update(wanted)
        _context.set_forkserver_preload([__name__, "tests.loaded_site"])
        with mock.patch.dict(os.environ, wanted, clear=True):
            forkserver.ensure_running()
    changed = {name for name, _ in wanted.items() ^ _loaded_with.items()}
    return ForkedProcess(command, wanted, log) if changed <= LATER else None


def become_celery(command: list[str], env: dict[str, str], log: Path) -> None:
    """What the forked process does."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    with log.open("wb") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    # Not in the process of the tests, which needs none of it.
    from celery.__main__ import main

    sys.argv = ["celery", *command]
    main()
