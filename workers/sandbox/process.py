"""Start a sandbox process for untrusted files, limit it, and end it.

With bubblewrap, the process sees an empty system with the interpreter, this code and the paths in its order.
Without bubblewrap, it has resource limits, no network where the kernel allows that, and the layers of
`workers.sandbox.self_restriction`. This module does not import torch.
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
# The known isolation layers. Others in the process's own report are ignored.
_LAYERS = ("bubblewrap", "network", "landlock", "limits", "hook")
_LOG = "stderr.log"
_MOST_LOG = 20_000
_MOST_REPORT_BYTES = 256 * 1024
# The interpreter, its libraries, and this code.
_INTERPRETER = (
    sys.base_prefix,
    sys.prefix,
    str(Path(sys.executable).resolve().parent),
    str(_ROOT / "workers"),
)


@dataclass(frozen=True)
class Limits:
    """Limits: address space (bytes), CPU and wall time (seconds), file size (bytes), open files."""

    memory: int = 8 * 1024**3
    cpu: int = 600
    wall: float = 900
    file: int = 2 * 1024**3
    open: int = 256


@dataclass(frozen=True)
class ProcessEnd:
    """How a process ended: `status` is None after a timeout. `isolation` has the active layers."""

    status: int | None
    isolation: dict[str, bool]

    @property
    def was_slow(self) -> bool:
        return self.status is None or self.status in _statuses_of(signal.SIGXCPU)

    @property
    def wrote_too_much(self) -> bool:
        return self.status in _statuses_of(signal.SIGXFSZ)


def run(
    program: str,
    order: Mapping[str, Any],
    *,
    readable: Mapping[str, Path],
    out: Path,
    limits: Limits,
    use_bubblewrap: bool = True,
    scratch_in: Path | None = None,
) -> ProcessEnd:
    """Run the module `program` in a sandbox process until it ends or its time is up.

    Its `main` gets the order as JSON, with the paths by name, and calls
    `workers.sandbox.self_restriction.begin` before it opens them.

    Args:
        order: parameters for the program; must be serializable to JSON.
        readable: readable files and folders, by their names in the order.
        out: the writable folder, called `out` in the order.
        scratch_in: parent of the process's temporary folder. Default: the system's temporary folder.
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
        paths = {**readable, "out": out, "scratch": scratch}
        status = _run(program, full, {name: path.resolve() for name, path in paths.items()}, limits)
        isolation = {**read_json(scratch / ISOLATION), "bubblewrap": is_wrapped}
        _log_end(program, status, scratch / _LOG)
    layers = {name: isolation[name] for name in _LAYERS if isinstance(isolation.get(name), bool)}
    return ProcessEnd(status, layers)


@functools.cache
def has_bubblewrap() -> bool:
    """Return whether bubblewrap is installed and works on this machine."""
    program = shutil.which("bwrap")
    if program is None:
        return False
    command = [program, *_bubblewrap_options(()), sys.executable, "-I", "-c", "pass"]
    try:
        done = subprocess.run(command, env={}, capture_output=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _statuses_of(number: signal.Signals) -> tuple[int, int]:
    """Return the exit statuses of a process killed by a signal: directly, and below bubblewrap."""
    return -number, 128 + number


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in an untrusted file, or an empty one if there is none."""
    try:
        value = json.loads(read_plain(path, _MOST_REPORT_BYTES))
    except (OSError, ValueError, RecursionError, BundleError):
        return {}
    return value if isinstance(value, dict) else {}


def read_text(report: Mapping[str, Any], name: str, most: int) -> str:
    """Return the printable characters among the first `most` of a text in a report."""
    value = report.get(name)
    shown = value[:most] if isinstance(value, str) else ""
    return "".join(character for character in shown if character.isprintable() or character == "\n")


def _run(program: str, order: dict[str, Any], paths: dict[str, Path], limits: Limits) -> int | None:
    scratch = paths["scratch"]
    prefix: list[str] = []
    if order["wrapped"]:
        binds = [(path, Path("/job") / name, name in ("out", "scratch")) for name, path in paths.items()]
        prefix = [str(shutil.which("bwrap")), *_bubblewrap_options(binds), "--chdir", "/job/scratch"]
        paths = {name: Path("/job") / name for name in paths}
    full = {**order, **{name: str(path) for name, path in paths.items()}}
    command = [*prefix, sys.executable, "-I", "-B", "-c", _START, str(_ROOT), program, json.dumps(full)]
    with (scratch / _LOG).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - this module builds the whole command
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
    """Kill the process and its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.debug("The process had ended.")
    process.wait()


def _bubblewrap_options(binds: Iterable[tuple[Path, Path, bool]]) -> list[str]:
    """Return bubblewrap's options: an empty system with the interpreter and this code, read-only.

    Args:
        binds: path outside, path inside, and whether it is writable.
    """
    options = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    for path in (*SYSTEM, *_INTERPRETER):
        options += ["--ro-bind-try", path, path]
    options += ["--proc", "/proc", "--dev", "/dev"]
    for outside, inside, is_writable in binds:
        options += ["--bind" if is_writable else "--ro-bind", str(outside), str(inside)]
    return options


def _log_end(program: str, status: int | None, log: Path) -> None:
    """Log the standard error of a failed process for the operator."""
    if status != 0:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _MOST_LOG))
            text = stream.read(_MOST_LOG).decode(errors="replace")
        logger.warning("%s ended with status %s: %s", program, status, text)
