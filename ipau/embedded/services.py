"""Embedded services of one data folder: start, publish their addresses in a file, stop."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ipau.embedded import logs, postgres, valkey
from ipau.embedded.errors import EmbeddedError
from ipau.embedded.server import Server
from ipau.embedded.watchdog import Watchdog

FILE = "services.json"
LEAST_FREE_BYTES = 150 * 1024 * 1024


@dataclass
class Services:
    """The running services and their addresses. An address is None if that service was not requested."""

    data_dir: Path
    watchdog: Watchdog
    database_url: str | None = None
    redis_url: str | None = None
    web_url: str | None = None
    servers: list[Server] = field(default_factory=list)
    _announced: bool = field(default=False, repr=False)

    def announce(self, *, web_url: str | None = None) -> None:
        """Write the addresses into the data folder, where the settings of other commands read them."""
        self.web_url = web_url or self.web_url
        addresses = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "web_url": self.web_url,
            "pid": os.getpid(),
        }
        write_private(
            self.data_dir / FILE,
            json.dumps({key: value for key, value in addresses.items() if value}, indent=2),
        )
        self._announced = True

    def withdraw(self) -> None:
        """Delete the file that `announce` wrote."""
        if self._announced:
            (self.data_dir / FILE).unlink(missing_ok=True)
            self._announced = False


@contextlib.contextmanager
def running(
    data_dir: Path, *, postgres: bool = True, valkey: bool = True, unsafe: bool = False
) -> Iterator[Services]:
    """Run the embedded services of a data folder while the block runs.

    Args:
        data_dir: created if it does not exist.
        postgres: start PostgreSQL.
        valkey: start Valkey.
        unsafe: faster, but a crash may destroy the data (tests).

    Raises:
        EmbeddedError: a service cannot start. The message says why and what to do.
    """
    with contextlib.ExitStack() as stack:
        try:
            _make_folder(data_dir)
            stack.enter_context(_lock(data_dir))
            _check_space(data_dir, needed=postgres or valkey)
            # A killed process leaves this file behind, with addresses that no longer answer.
            (data_dir / FILE).unlink(missing_ok=True)
            services = _start(stack, data_dir, want_postgres=postgres, want_valkey=valkey, unsafe=unsafe)
        except OSError as error:
            raise EmbeddedError(
                f"The data folder {data_dir} cannot be used: {logs.system_reason(error)} "
                f"({error.filename or 'unknown file'}). Fix this, or set IPAU_DATA to a folder you own."
            ) from error
        stack.callback(services.withdraw)
        yield services


def _start(
    stack: contextlib.ExitStack, data_dir: Path, *, want_postgres: bool, want_valkey: bool, unsafe: bool
) -> Services:
    watchdog = Watchdog()
    stack.callback(watchdog.close)
    services = Services(data_dir=data_dir, watchdog=watchdog)
    with ThreadPoolExecutor(max_workers=2) as pool:
        # They do not depend on each other, and each spends most of its start waiting.
        starting = [
            pool.submit(module.start, data_dir, watchdog=watchdog, unsafe=unsafe)
            for module, wanted in ((postgres, want_postgres), (valkey, want_valkey))
            if wanted
        ]
    for started in starting:
        # First of all: one that runs is also stopped where the other one does not start.
        if started.exception() is None:
            stack.callback(started.result().stop)
    services.servers = [started.result() for started in starting]
    urls = {server.name: server.url for server in services.servers}
    services.database_url, services.redis_url = urls.get("postgresql"), urls.get("valkey")
    return services


def ensure_secret_key(data_dir: Path) -> str:
    """Return the secret key of the data folder. Creates one if there is none."""
    file = data_dir / "secret_key"
    if not file.exists() or not file.read_text().strip():
        write_private(file, secrets.token_urlsafe(50))
    return file.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically. Only its owner can read it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _make_folder(data_dir: Path) -> None:
    # As root, services run as another account, which must enter the folder but not list it.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    is_new = not data_dir.is_dir()
    data_dir.mkdir(mode=mode, exist_ok=True)
    if is_new:
        # Set explicitly: the umask could remove bits that the other account needs.
        data_dir.chmod(mode)
    (data_dir / "logs").mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[None]:
    path = data_dir / "lock"
    with path.open("a+") as file:
        path.chmod(0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise EmbeddedError(
                f"The data folder {data_dir} is in use by process {owner}. "
                "Stop that process, or set IPAU_DATA to another folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _check_space(data_dir: Path, *, needed: bool) -> None:
    free = shutil.disk_usage(data_dir).free
    if needed and free < LEAST_FREE_BYTES:
        raise EmbeddedError(
            f"The disk of {data_dir} has only {free // 2**20} MB of free space. "
            f"The services need {LEAST_FREE_BYTES // 2**20} MB. "
            "Free some space, or set IPAU_DATA to a folder on another disk."
        )
