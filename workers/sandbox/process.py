"""A process that can do nothing else, for what strangers had a hand in: started, bounded, ended.

With bubblewrap it sees an empty system with the interpreter, this code and the places that it is given.
Without it, it has limits, no network where that is allowed, and its own second wall
(`workers.sandbox.self_restriction`). Nothing of torch is loaded here.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workers.bundle import BundleError, read_plain
from workers.sandbox.self_restriction import ISOLATION, SYSTEM

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_START = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); "
    "sys.exit(importlib.import_module(sys.argv[2]).main(sys.argv[3:]))"
)
# What may stand between the process and the machine. Whatever else it says of that is left out.
_WALLS = ("bubblewrap", "network", "landlock", "limits", "hook")
_LOG = "stderr.log"
_MOST_LOG = 20_000
_MOST_SAID_BYTES = 256 * 1024
# The interpreter, its libraries, and this code.
_INTERPRETER = (
    sys.base_prefix,
    sys.prefix,
    str(Path(sys.executable).resolve().parent),
    str(_ROOT / "workers"),
)


@dataclass(frozen=True)
class Limits:
    """What it may use: bytes of address space, seconds of processor and clock, bytes of a file."""

    memory: int = 8 * 1024**3
    cpu: int = 600
    wall: float = 900
    file: int = 2 * 1024**3
    open: int = 256


@dataclass(frozen=True)
class Ended:
    """How it ended: `status` is None where its time was up; `isolation` says which walls stood."""

    status: int | None
    isolation: dict[str, bool]

    @property
    def was_slow(self) -> bool:
        return self.status is None or self.status in _ended_by(signal.SIGXCPU)

    @property
    def wrote_too_much(self) -> bool:
        return self.status in _ended_by(signal.SIGXFSZ)


def run(
    program: str,
    order: Mapping[str, Any],
    *,
    readable: Mapping[str, Path],
    out: Path,
    limits: Limits,
    use_bubblewrap: bool = True,
    scratch_in: Path | None = None,
) -> Ended:
    """Have the module `program` carry out an order, to its end or that of its time.

    Its `main` gets the order as JSON, with the places by name, and calls
    `workers.sandbox.self_restriction.begin` before it touches them.

    Args:
        order: what JSON can hold.
        readable: files and folders that it may read, by their names in the order.
        out: the folder that it may write into, called `out` there.
        scratch_in: where its folder for temporary files is made; by default where the system has them.
    """
    is_wrapped = use_bubblewrap and has_bubblewrap()
    with tempfile.TemporaryDirectory(prefix="ipau-convert-", dir=scratch_in) as folder:
        scratch = Path(folder)
        full = {
            **order,
            "limits": asdict(limits),
            "wrapped": is_wrapped,
            "interpreter": _INTERPRETER,
            "readable": sorted(readable),
        }
        places = {**readable, "out": out, "scratch": scratch}
        status = _run(program, full, {name: place.resolve() for name, place in places.items()}, limits)
        isolation = {**read_json(scratch / ISOLATION), "bubblewrap": is_wrapped}
        _log_end(program, status, scratch / _LOG)
    return Ended(status, {name: isolation[name] for name in _WALLS if isinstance(isolation.get(name), bool)})


@functools.cache
def has_bubblewrap() -> bool:
    """Say whether this machine has a bubblewrap that works here."""
    found = shutil.which("bwrap")
    if found is None:
        return False
    command = [found, *_walls(()), sys.executable, "-I", "-c", "pass"]
    try:
        done = subprocess.run(command, env={}, capture_output=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _ended_by(number: signal.Signals) -> tuple[int, int]:
    """Return the statuses of a process that a signal ended, with and without a shell between."""
    return -number, 128 + number


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a file holds which may be anything; an empty one where it holds none."""
    try:
        found = json.loads(read_plain(path, _MOST_SAID_BYTES))
    except (OSError, ValueError, RecursionError, BundleError):
        return {}
    return found if isinstance(found, dict) else {}


def read_text(said: Mapping[str, Any], name: str, most: int) -> str:
    """Return the printable part of a text, at most so many characters."""
    value = said.get(name)
    shown = value[:most] if isinstance(value, str) else ""
    return "".join(character for character in shown if character.isprintable() or character == "\n")


def _run(program: str, order: dict[str, Any], places: dict[str, Path], limits: Limits) -> int | None:
    scratch = places["scratch"]
    prefix: list[str] = []
    if order["wrapped"]:
        binds = [(place, Path("/job") / name, name in ("out", "scratch")) for name, place in places.items()]
        prefix = [str(shutil.which("bwrap")), *_walls(binds), "--chdir", "/job/scratch"]
        places = {name: Path("/job") / name for name in places}
    full = {**order, **{name: str(place) for name, place in places.items()}}
    command = [*prefix, sys.executable, "-I", "-B", "-c", _START, str(_ROOT), program, json.dumps(full)]
    with (scratch / _LOG).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - every word of it comes from this code
            command,
            env={},
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        return process.wait(limits.wall)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process with all that it may have started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.debug("The process had ended.")
    process.wait()


def _walls(binds: Iterable[tuple[Path, Path, bool]]) -> list[str]:
    """Return bubblewrap's options: an empty system with the interpreter and this code, all of it read-only.

    Args:
        binds: places outside, where they are inside, and whether they may be written to.
    """
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    for place in (*SYSTEM, *_INTERPRETER):
        options += ["--ro-bind-try", place, place]
    options += ["--proc", "/proc", "--dev", "/dev"]
    for outside, inside, is_writable in binds:
        options += ["--bind" if is_writable else "--ro-bind", str(outside), str(inside)]
    return options


def _log_end(program: str, status: int | None, log: Path) -> None:
    """Keep what the process said when it broke down: an operator may need it."""
    if status != 0:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _MOST_LOG))
            said = stream.read(_MOST_LOG).decode(errors="replace")
        logger.warning("%s ended with %s: %s", program, status, said)
