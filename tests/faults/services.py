"""PostgreSQL and Valkey of one test, which it may kill, freeze and restart."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from ipau.embedded.server import Server

READY_SECONDS = 30


@dataclass
class OwnServer:
    """`env` makes a worker of `tests.live` use it."""

    server: Server
    env: dict[str, str]
    answers: Callable[[], object]

    def kill(self) -> None:
        """End it as a power cut would."""
        process = self._process
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        self.server.stop()

    def start(self) -> None:
        """Start it again at its old address; returns when it answers."""
        self.server.spawn()
        ends = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.answers()
                return
            except (psycopg.OperationalError, redis.RedisError):
                if time.monotonic() > ends:
                    raise
                time.sleep(0.05)

    def freeze(self) -> None:
        """Let all its processes stand still; connections stay open."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)

    def pids(self) -> list[int]:
        """Return its main process and that one's children: PostgreSQL has one for each connection."""
        main = self._process.pid
        return [main, *children(main)]

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        assert self.server.process is not None
        return self.server.process


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
