"""Web server in its own process, which a test can kill. `live_server` is only a thread."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60


class WebServer:
    """The site's gunicorn on a port of its own, with the database of the test: one process of some threads.

    `app` names what it serves.
    """

    def __init__(self, env: dict[str, str], log: Path, *, app: str = "ipau.wsgi", threads: int = 8):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        # The host of `live_server`, so that a browser which is signed in there is signed in here.
        self.url = f"http://localhost:{self.port}"
        self._env = {**env, "IPAU_WEB_WORKERS": "1", "IPAU_WEB_THREADS": str(threads)}
        self._app = app
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        command = [sys.executable, "-m", "gunicorn", "-c", "python:ipau.gunicorn", self._app]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [*command, "-b", f"127.0.0.1:{self.port}"],
                cwd=ROOT,
                env=self._env,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        ends = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ends:
                raise AssertionError(f"The server did not start:\n{self._log.read_text()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it and its processes at once with -9, whatever they are doing."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
