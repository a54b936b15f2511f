"""Lifecycle of a site: start its programs in order, restart what dies, stop in reverse order."""

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from django.conf import settings
from django.db import OperationalError, connection
from kombu.exceptions import OperationalError as MessagingError

from ipau.celery import app
from ipau.common.private_files import UMASK, GroupError, process_umask
from ipau.embedded import Services, logs, running
from ipau.embedded.bytecode import compile_code
from ipau.supervisor import listening, prepare
from ipau.supervisor.child import FIRST_PAUSE, LONGEST_PAUSE, MOST_QUICK_DEATHS, QUICK_SECONDS, Child, say
from ipau.supervisor.programs import LATER, LOOPBACK, Address, ProgramOptions, node_name, programs

READY_SECONDS = 90.0
POLL_SECONDS = 0.1
DEFAULT_SOFT_SECONDS = 20.0


class SiteError(Exception):
    """The site cannot run. The message says why and what to do."""


@dataclass
class ServerWatch:
    """Recent deaths of an embedded service."""

    quick_deaths: int = 0
    spawned: float = field(default_factory=time.monotonic)
    not_before: float | None = None


class Site:
    """The programs of a site and its embedded services."""

    def __init__(
        self,
        plan: ProgramOptions,
        services: Services,
        *,
        echo: bool = True,
        listener: socket.socket | None = None,
    ) -> None:
        self.plan = plan
        self.services = services
        self.echo = echo
        self._listener = listener
        self.children: list[Child] = []
        self._servers = {server.name: ServerWatch() for server in services.servers}
        self._hurry = threading.Event()

    def start(self) -> None:
        """Start the programs that must answer before the site is ready, without waiting for them."""
        if os.geteuid() == 0:
            self._log("you run this as root; an ordinary user is safer")
        if notice := network_notice(self.plan.address, proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT):
            self._log(notice)
        self.children = self._start(later=False)

    def _start(self, *, later: bool) -> list[Child]:
        chosen = [program for program in programs(self.plan) if (program.name in LATER) == later]
        children = [
            Child(program, _log(self.plan, program.name), self.services.watchdog, echo=self.echo)
            for program in chosen
        ]
        for child in children:
            child.start()
        return children

    def log_of(self, name: str) -> Path:
        """Return the log file of a program."""
        return _log(self.plan, name)

    def hurry(self) -> None:
        """Make a running `stop` kill the programs at once."""
        self._hurry.set()

    def tend(self) -> None:
        """Restart programs and services that have died.

        Raises:
            SiteError: one of them died too quickly too often.
        """
        for child in self.children:
            line = child.tend()
            if child.has_failed:
                raise SiteError(_gave_up(child.program.name, child.last_lines, child.log))
            if line:
                self._log(line)
        self._tend_servers()

    def wait_ready(self, *, interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the web server and the workers that pages need answer, then start the other programs.

        Returns False if interrupted.

        Raises:
            SiteError: one of them does not answer within `READY_SECONDS`.
        """
        until = time.monotonic() + READY_SECONDS
        waiting: list[tuple[str, Callable[[], bool]]] = [
            ("web", lambda: web_answers(self.plan.address)),
            *((name, lambda name=name: self._worker_answers(name)) for name in ("cpu", "preview")),
        ]
        while waiting:
            self.tend()
            if interrupted():
                return False
            if waiting[0][1]():
                waiting.pop(0)
                continue
            if time.monotonic() > until:
                raise SiteError(self._silent(waiting[0][0]))
            time.sleep(POLL_SECONDS)
        self.children += self._start(later=True)
        return True

    def stop(self) -> None:
        """Stop all programs, stage by stage: web, beat, workers. Each stage has a time limit."""
        if self._listener is not None:
            # Refuse new connections: no web server will accept them.
            self._listener.close()
        for stage in sorted({child.program.stage for child in self.children}):
            members = [child for child in self.children if child.program.stage == stage]
            for child in members:
                child.ask_to_stop()
            until = time.monotonic() + max(child.program.stop_seconds for child in members)
            while not self._hurry.is_set() and time.monotonic() < until and any(map(_runs, members)):
                time.sleep(0.05)
            for child in members:
                child.stop(0)

    def _tend_servers(self) -> None:
        now = time.monotonic()
        for server in self.services.servers:
            watch = self._servers[server.name]
            if watch.not_before is not None:
                if now >= watch.not_before:
                    watch.not_before, watch.spawned = None, now
                    server.spawn()
            elif server.has_died():
                watch.quick_deaths = watch.quick_deaths + 1 if now - watch.spawned < QUICK_SECONDS else 0
                if watch.quick_deaths >= MOST_QUICK_DEATHS:
                    raise SiteError(_gave_up(server.name, logs.tail(server.log, 10).splitlines(), server.log))
                pause = min(FIRST_PAUSE * 2 ** max(watch.quick_deaths - 1, 0), LONGEST_PAUSE)
                watch.not_before = now + pause
                self._log(f"{server.name} died; restarting it in {pause:g} s")

    def _worker_answers(self, worker: str) -> bool:
        name = node_name(self.plan, worker)
        try:
            # With `limit`, the call returns at the first answer instead of at the timeout.
            return bool(app.control.ping(destination=[name], timeout=0.5, limit=1))
        except (MessagingError, redis.RedisError, OSError):
            # Valkey may be restarting. The caller has a time limit.
            return False

    def _silent(self, name: str) -> str:
        child = next(child for child in self.children if child.program.name == name)
        return (
            f"'{name}' did not answer within {READY_SECONDS:.0f} s. {_log_ends(child.log, child.last_lines)}"
        )

    def _log(self, line: str) -> None:
        if self.echo:
            say(f"{'up':<8}| {line}")


@contextlib.contextmanager
def site_running(address: Address, *, slots: int | None = None, echo: bool = True) -> Iterator[Site]:
    """Run a site while the block runs. The caller calls `tend` regularly.

    Args:
        address: address of the web server.
        slots: processes of the CPU worker; default: one per core.
        echo: print the output of the programs.

    Raises:
        SiteError: a port is in use, or a program keeps dying.
        EmbeddedError: an embedded service does not start.
    """
    data_dir = Path(settings.DATA_DIR)
    check_port(address)
    # With the umask of the person, as the other modules of the same folders.
    compile_code()
    with (
        running(data_dir, postgres=_is_free("DATABASE_URL"), valkey=_is_free("REDIS_URL")) as services,
        process_umask(UMASK),
    ):
        prepare.adopt(services)
        prepare.adopt_secret_key(data_dir)
        _close_data_folder(data_dir)
        services.announce(web_url=os.environ.get("IPAU_BASE_URL", address.url))
        _check_services()
        prepare.migrate()
        prepare.collect_static(data_dir)
        listener = _listen(address)
        plan = ProgramOptions(
            address=address,
            data_dir=data_dir,
            slots=slots or os.cpu_count() or 1,
            soft_seconds=float(app.conf.worker_soft_shutdown_timeout or DEFAULT_SOFT_SECONDS) + 5,
            listener=listener.fileno(),
        )
        site = Site(plan, services, echo=echo, listener=listener)
        try:
            site.start()
            yield site
        finally:
            site.stop()


def _close_data_folder(data_dir: Path) -> None:
    try:
        prepare.close_data_folder(data_dir)
    except GroupError as error:
        raise SiteError(str(error)) from error


def _check_services() -> None:
    try:
        connection.ensure_connection()
    except OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise SiteError(
            f"The database does not answer ({reason}). Start it, or correct DATABASE_URL."
        ) from error
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=3, socket_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        raise SiteError(f"Redis does not answer ({error}). Start it, or correct REDIS_URL.") from error


def check_port(address: Address) -> None:
    """Check that the port can be used, before anything is started.

    Raises:
        SiteError: the port is in use or not permitted.
    """
    try:
        listening.bind(address).close()
    except OSError as error:
        raise _port_error(address, error) from error


def _listen(address: Address) -> socket.socket:
    try:
        return listening.listen(address)
    except OSError as error:
        raise _port_error(address, error) from error


def _port_error(address: Address, error: OSError) -> SiteError:
    return SiteError(
        f"The site cannot listen on {address.bind}: {logs.system_reason(error)}. "
        "Stop the program that uses it, or choose another port with --port."
    )


def network_notice(address: Address, *, proxies: int) -> str:
    """Return a warning if other machines reach the web server without a proxy, else an empty text."""
    if address.host in LOOPBACK or proxies:
        return ""
    return (
        f"other machines reach {address.bind} over plain HTTP. Use this only on a trusted network; "
        "otherwise put nginx in front: docs/how-to/nginx.md"
    )


def web_answers(address: Address) -> bool:
    """Return whether the web server answers its health check."""
    host = address.reachable.strip("[]")
    connection = http.client.HTTPConnection(host, address.port, timeout=5)
    # The Host header must be a name that the site accepts.
    allowed = next((name for name in settings.ALLOWED_HOSTS if "*" not in name), host).lstrip(".")
    try:
        connection.request("GET", "/healthz", headers={"Host": allowed})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _runs(child: Child) -> bool:
    return child.process is not None and child.process.poll() is None


def _is_free(variable: str) -> bool:
    return not os.environ.get(variable)


def _log(plan: ProgramOptions, name: str) -> Path:
    return plan.data_dir / "logs" / f"{name}.log"


def _gave_up(name: str, lines: Iterable[str], log: Path) -> str:
    times = f"{MOST_QUICK_DEATHS} times in a row"
    return f"'{name}' died {times}, so the site stops. {_log_ends(log, lines)}"


def _log_ends(log: Path, lines: Iterable[str]) -> str:
    return "\n".join([f"Its log is {log}. The last lines:", *(f"  {line}" for line in lines)])
