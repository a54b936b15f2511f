"""The private services of one data folder: started together, announced in a file, stopped together."""

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
    """What runs, and where it answers. An address is None where that service was not asked for."""

    data_dir: Path
    watchdog: Watchdog
    database_url: str | None = None
    redis_url: str | None = None
    web_url: str | None = None
    servers: list[Server] = field(default_factory=list)
    _announced: bool = field(default=False, repr=False)

    def announce(self, *, web_url: str | None = None) -> None:
        """Write the addresses into the data folder, where settings and other commands look for them."""
        self.web_url = web_url or self.web_url
        found = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "web_url": self.web_url,
            "pid": os.getpid(),
        }
        write_private(
            self.data_dir / FILE, json.dumps({key: value for key, value in found.items() if value}, indent=2)
        )
        self._announced = True

    def withdraw(self) -> None:
        """Remove the announcement."""
        if self._announced:
            (self.data_dir / FILE).unlink(missing_ok=True)
            self._announced = False


@contextlib.contextmanager
def running(
    data_dir: Path, *, postgres: bool = True, valkey: bool = True, unsafe: bool = False
) -> Iterator[Services]:
    """Run the private services of a data folder while the block runs.

    Args:
        data_dir: made if it does not exist.
        postgres: start PostgreSQL.
        valkey: start Valkey.
        unsafe: speed before safety, for data that nobody wants to keep (tests).

    Raises:
        EmbeddedError: something is in the way; says what, and a way out.
    """
    with contextlib.ExitStack() as stack:
        try:
            _make_folder(data_dir)
            stack.enter_context(_lock(data_dir))
            _check_space(data_dir, needed=postgres or valkey)
            # A file that a killed predecessor left would point others at services that are gone.
            (data_dir / FILE).unlink(missing_ok=True)
            services = _start(stack, data_dir, want_postgres=postgres, want_valkey=valkey, unsafe=unsafe)
        except OSError as error:
            raise EmbeddedError(
                f"The data folder {data_dir} cannot be used: {logs.system_reason(error)} "
                f"({error.filename or 'no file named'}). Mend that, or set IPAU_DATA to a folder you own."
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
    """Return the data folder's secret key, making one if there is none."""
    kept = data_dir / "secret_key"
    if not kept.exists() or not kept.read_text().strip():
        write_private(kept, secrets.token_urlsafe(50))
    return kept.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, so that readers see the old or the new text, whole."""
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
    # Root's services run as another account, which has to pass through, but not to list.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    is_new = not data_dir.is_dir()
    data_dir.mkdir(mode=mode, exist_ok=True)
    if is_new:
        # Set explicitly: a umask would take from it what the other account needs.
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
                "Stop that first, or set IPAU_DATA to another folder."
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
            f"Only {free // 2**20} MB are free on the disk of {data_dir}, "
            f"and the services need {LEAST_FREE_BYTES // 2**20} MB. "
            "Make room, or set IPAU_DATA to a folder on another disk."
        )
