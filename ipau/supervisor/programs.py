"""Programs of a site (web server, workers, Celery beat) and their command lines."""

import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from ipau.supervisor.child import Program

# A slot is one process on one core, so threads of numeric libraries would compete for it.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
PREVIEW_SLOTS = 2
# For work that no page waits for: sweeps, checks of uploads, e-mails, webhook deliveries.
BACKGROUND_SLOTS = 2
# Two, so that a long conversion does not block other accounts. Each account runs one conversion at a time.
CONVERT_SLOTS = 2
# Time limit for processes of a killed web server, longer than their own limit in `ipau.web.shutdown.orphans`.
ORPHAN_SECONDS = 35.0
# Started after the site answers. Earlier, they would take CPU time from the web server and workers.
LATER = frozenset({"beat", "background", "convert"})
ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  # nosec B104  # compared with
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Address:
    """Address of the web server."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """URL that works on this machine."""
        return f"http://{self.reachable}:{self.port}"

    @property
    def reachable(self) -> str:
        """Host name for a browser on this machine."""
        host = "127.0.0.1" if self.host in ANYWHERE else self.host
        return f"[{host}]" if ":" in host else host

    @property
    def bind(self) -> str:
        """Host and port in gunicorn's notation."""
        host = self.host or "0.0.0.0"  # noqa: S104  # nosec B104  # the user's choice
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True)
class ProgramOptions:
    """Options of the programs."""

    address: Address
    data_dir: Path
    slots: int
    soft_seconds: float
    """Seconds for a worker to finish or give back its work when it stops."""
    listener: int | None = None
    """File descriptor of the listening socket; None: the web server creates its own."""


def environment(plan: ProgramOptions) -> dict[str, str]:
    """Return the environment of all programs. Variables that the user set are kept."""
    env = {**os.environ, "IPAU_DATA": str(plan.data_dir), "PYTHONUNBUFFERED": "1"}
    env.setdefault("IPAU_BASE_URL", plan.address.url)
    for name, value in ONE_THREAD.items():
        env.setdefault(name, value)
    if plan.address.host not in LOOPBACK:
        # On a network, clients reach the site by the names of the machine.
        names = [*LOOPBACK[:2], "[::1]", plan.address.reachable, socket.gethostname(), socket.getfqdn()]
        env.setdefault("ALLOWED_HOSTS", ",".join(dict.fromkeys(names)))
    return env


def programs(plan: ProgramOptions) -> list[Program]:
    """Return the programs of a site in start order."""
    env = environment(plan)
    celery = [sys.executable, "-m", "celery", "-q", "-A", "ipau"]
    # Django's checks would load all pages and forms, which workers do not need.
    worker_env = {**env, "CELERY_SKIP_CHECKS": "1"}
    # The supervisor warns about root once, instead of each worker in four lines.
    worker_env.setdefault("PYTHONWARNINGS", "ignore:You're running the worker with superuser privileges")
    web = Program(
        name="web",
        command=[sys.executable, "-m", "gunicorn", "-c", "python:ipau.gunicorn", "ipau.wsgi"],
        env={**env, "IPAU_BIND": plan.address.bind if plan.listener is None else f"fd://{plan.listener}"},
        stop_signal=signal.SIGTERM,
        stop_seconds=12,
        stage=0,
        sockets=() if plan.listener is None else (plan.listener,),
        orphan_seconds=0.0 if plan.listener is None else ORPHAN_SECONDS,
    )
    beat = Program(
        name="beat",
        command=[*celery, "beat", "-l", "WARNING", "-s", str(plan.data_dir / "beat-schedule"), "--pidfile="],
        env=env,
        stop_signal=signal.SIGTERM,
        stop_seconds=5,
        stage=1,
    )
    options = ["-l", "INFO", "--without-gossip", "--without-mingle"]
    workers = [
        Program(
            name=name,
            command=[
                *celery,
                "worker",
                "-n",
                node_name(plan, name),
                "-Q",
                name,
                "-c",
                str(slots),
                *options,
            ],
            env=worker_env,
            stop_signal=signal.SIGTERM,
            stop_seconds=plan.soft_seconds,
            stage=2,
        )
        for name, slots in (
            ("cpu", plan.slots),
            ("preview", PREVIEW_SLOTS),
            ("background", BACKGROUND_SLOTS),
            ("convert", CONVERT_SLOTS),
        )
    ]
    return [web, *workers, beat]


def node_name(plan: ProgramOptions, worker: str) -> str:
    """Return the Celery node name of a worker. It has the port, since one machine may run several sites."""
    return f"{worker}@{socket.gethostname()}-{plan.address.port}"
