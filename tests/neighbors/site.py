"""Site under attack: all of `manage.py up` in its own folder, and API clients."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tests.benchmarks.site import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
# What would lead it to the services of the tests.
_OURS = ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE", "PYTEST_CURRENT_TEST")
_NEVER = urllib3.Retry(0, redirect=0)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    data: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.data)


class Client:
    """One account, over as many connections as it likes."""

    def __init__(self, base: str, key: str) -> None:
        self.base, self.key = base, key
        self._pool = urllib3.PoolManager(maxsize=64, retries=_NEVER, timeout=60)

    def ask(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        """Send a request; return what came and how long that took. Raises urllib3's HTTPError.

        Args:
            fields: parts of a form.
            body: what is sent as JSON instead.
        """
        sent = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        data = None
        if body is not None:
            sent["Content-Type"], data = "application/json", json.dumps(body).encode()
        began = time.monotonic()
        answer = self._pool.request(
            method, self.base + path, headers=sent, fields=fields, body=data, timeout=timeout
        )
        return Answer(answer.status, answer.data, time.monotonic() - began)

    def take(self, method: str, path: str, **options: Any) -> Any:
        """Send a request that has to succeed; return its JSON."""
        answer = self.ask(method, path, **options)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.data[:500]!r}"
        return answer.json()

    def upload(self, name: str, data: bytes) -> str:
        """Put a file into the drive; return its id."""
        found: str = self.take("POST", "/v1/files", fields={"content": (name, data)})["id"]
        return found

    def convert(self, name: str, data: bytes) -> str:
        """Ask for a model of weights; return the conversion's id."""
        fields = {"weights": (f"{name}.onnx", data), "name": name}
        found: str = self.take("POST", "/v1/models", fields=fields)["id"]
        return found

    def wait_for_model(self, conversion: str, *, seconds: float = 120) -> str:
        """Wait for a conversion to succeed; return the model's address."""
        ends = time.monotonic() + seconds
        while True:
            said = self.take("GET", f"/v1/conversions/{conversion}")
            if said["status"] == "succeeded":
                address: str = said["model"]
                return address
            assert said["status"] != "failed", said
            assert time.monotonic() < ends, said
            time.sleep(0.2)

    def submit(self, model: str, files: list[str]) -> str:
        """Submit a job; return its id."""
        body = {"model": model, "input": {}, "files": files, "reuse": False}
        found: str = self.take("POST", "/v1/jobs", body=body)["id"]
        return found

    def wait_for_job(self, job: str, *, seconds: float = 90) -> dict[str, Any]:
        """Wait until a job has ended; return what it is then."""
        ends = time.monotonic() + seconds
        while True:
            said: dict[str, Any] = self.take("GET", f"/v1/jobs/{job}")
            if said["status"] in ("succeeded", "failed", "canceled"):
                return said
            assert time.monotonic() < ends, said
            time.sleep(0.05)


@dataclass(frozen=True)
class Site:
    """What runs: where, and in which folder."""

    base: str
    folder: Path
    log: Path
    env: Mapping[str, str]

    def client(self, email: str) -> Client:
        """Make an account; return a client with a key of it."""
        command = [sys.executable, "-W", "ignore", "manage.py", "create_api_key", email]
        made = subprocess.run(
            command, cwd=ROOT, env=dict(self.env), capture_output=True, text=True, check=True
        )
        return Client(self.base, made.stdout.strip().splitlines()[-1])


@contextlib.contextmanager
def running(**settings: str) -> Iterator[Site]:
    """Run a whole site as `manage.py up` does. Arguments are environment variables."""
    folder = Path(tempfile.mkdtemp(prefix="ipau-neighbors-"))
    folder.chmod(0o711)
    port = free_port()
    env = {name: value for name, value in os.environ.items() if name not in _OURS and "IPAU" not in name}
    env |= {"IPAU_DATA": str(folder), "IPAU_PREVIEW_RATE": "100000/min", **settings}
    log = folder / "up.log"
    command = [sys.executable, "-W", "ignore", "manage.py", "up", "--port", str(port), "--workers", "2"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait_until_ready(process, log)
        yield Site(f"http://127.0.0.1:{port}", folder, log, env)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while "ready:" not in log.read_text(errors="replace"):
        runs = process.poll() is None and time.monotonic() < ends
        assert runs, log.read_text(errors="replace")[-4000:]
        time.sleep(0.1)
