"""The programs a site consists of, and how each is started."""

import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from ipau.supervisor.child import Program

# Threads of numeric libraries would fight with each other: a slot is one process on one core.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
PREVIEW_SLOTS = 2
# Of what nobody waits for at the other end of a page: sweeps, checks of uploads, mails, deliveries.
BACKGROUND_SLOTS = 2
# So that nobody's long conversion holds up another person's: of one person, one is at work at a time.
CONVERT_SLOTS = 2
# Processes of a killed web server serve on while another one starts, for less time than this: see
# `ipau.web.shutdown.orphans`.
ORPHAN_SECONDS = 35.0
# Started when the site answers: before, they would take processor time from those that it needs for that.
LATER = frozenset({"beat", "background", "convert"})
ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  # nosec B104  # compared with
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Address:
    """Where the web server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """An address that works on this machine."""
        return f"http://{self.reachable}:{self.port}"

    @property
    def reachable(self) -> str:
        """The host as a browser on this machine writes it."""
        host = "127.0.0.1" if self.host in ANYWHERE else self.host
        return f"[{host}]" if ":" in host else host

    @property
    def bind(self) -> str:
        """Host and port as gunicorn writes them."""
        host = self.host or "0.0.0.0"  # noqa: S104  # nosec B104  # asked for
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True)
class Plan:
    """What the programs have to know."""

    address: Address
    data_dir: Path
    slots: int
    soft_seconds: float
    """How long a worker may take to finish or hand back what it is doing."""
    listener: int | None = None
    """The file number of the socket on which the web server accepts; None: it listens by itself."""


def environment(plan: Plan) -> dict[str, str]:
    """Return the environment of all programs; what the person set stays as it is."""
    env = {**os.environ, "IPAU_DATA": str(plan.data_dir), "PYTHONUNBUFFERED": "1"}
    env.setdefault("IPAU_BASE_URL", plan.address.url)
    for name, value in ONE_THREAD.items():
        env.setdefault(name, value)
    if plan.address.host not in LOOPBACK:
        # Whoever opens the site to the network reaches it by the machine's names.
        names = [*LOOPBACK[:2], "[::1]", plan.address.reachable, socket.gethostname(), socket.getfqdn()]
        env.setdefault("ALLOWED_HOSTS", ",".join(dict.fromkeys(names)))
    return env


def programs(plan: Plan) -> list[Program]:
    """Return the site's programs in the order of their start."""
    env = environment(plan)
    celery = [sys.executable, "-m", "celery", "-q", "-A", "ipau"]
    # The checks would load every page and form into processes that serve none.
    worker_env = {**env, "CELERY_SKIP_CHECKS": "1"}
    # Said once by us instead of in four lines by each worker.
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


def node_name(plan: Plan, worker: str) -> str:
    """Return a worker's name in the fleet: no two sites on a machine share a port."""
    return f"{worker}@{socket.gethostname()}-{plan.address.port}"
