"""Supervised program: its process, its log, and restarts after a crash."""

import collections
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ipau.embedded import logs
from ipau.embedded.watchdog import Watchdog, kill_group
from ipau.supervisor.orphans import Orphans

# Longer than a start on a busy machine.
QUICK_SECONDS = 30.0
MOST_QUICK_DEATHS = 5
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
LINES_KEPT = 15

_terminal = threading.Lock()


@dataclass(frozen=True)
class Program:
    """Command of a program, and how to stop it. Lower stages stop first."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    stop_signal: int
    stop_seconds: float
    stage: int
    sockets: tuple[int, ...] = ()
    """File descriptors of listening sockets that it inherits."""
    orphan_seconds: float = 0.0
    """How long its child processes may continue after it was killed, while a new one starts."""


@dataclass
class Child:
    """A program that is restarted when it dies."""

    program: Program
    log: Path
    watchdog: Watchdog
    echo: bool = True
    process: subprocess.Popen[bytes] | None = None
    quick_deaths: int = 0
    last_lines: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=LINES_KEPT))
    _started: float = 0.0
    _not_before: float = 0.0
    _pump: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._orphans = Orphans(self.watchdog)

    def start(self) -> None:
        """Start the program as the leader of a process group, so that Ctrl-C reaches only this process."""
        self.process = subprocess.Popen(
            list(self.program.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(self.program.env),
            process_group=0,
            pass_fds=self.program.sockets,
        )
        self.watchdog.add(
            self.process.pid,
            stop_signal=self.program.stop_signal,
            stage=self.program.stage,
            grace=self.program.stop_seconds,
        )
        self._started = time.monotonic()
        assert self.process.stdout is not None
        self._pump = threading.Thread(target=self._copy_output, args=[self.process.stdout], daemon=True)
        self._pump.start()

    def tend(self) -> str | None:
        """Restart the program if it died and its pause is over; return a line to log, if any.

        Each death within `QUICK_SECONDS` doubles the pause before the restart.
        """
        now = time.monotonic()
        self._orphans.tend()
        if self.process is None:
            if now >= self._not_before:
                self.start()
            return None
        code = self.process.poll()
        if code is None:
            return None
        if code < 0 and self.program.orphan_seconds:
            self._orphans.add(self.process.pid, self.program.orphan_seconds)
            self.process = None
        else:
            self._clear(self.process)
        self.quick_deaths = self.quick_deaths + 1 if now - self._started < QUICK_SECONDS else 0
        # Restart at once if it ran for long: users wait for it.
        pause = min(FIRST_PAUSE * 2 ** (self.quick_deaths - 1), LONGEST_PAUSE) if self.quick_deaths else 0.0
        self._not_before = now + pause
        return f"{self.program.name} {describe_end(code)}; restarting it in {pause:g} s"

    @property
    def has_failed(self) -> bool:
        """Return whether the program died too quickly too often to restart it."""
        return self.quick_deaths >= MOST_QUICK_DEATHS

    def ask_to_stop(self) -> None:
        """Send the stop signal, without waiting."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.program.stop_signal)

    def stop(self, seconds: float) -> None:
        """Wait up to `seconds` until the program ends, then kill its process group."""
        self._orphans.end()
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=max(seconds, 0))
        self._clear(self.process)

    def _clear(self, process: subprocess.Popen[bytes]) -> None:
        # Kill surviving children of the program too: they would hold ports, rows and memory.
        kill_group(process.pid)
        process.wait()
        self.watchdog.drop(process.pid)
        if self._pump is not None:
            self._pump.join(timeout=2)
        self.process = None

    def _copy_output(self, stream: IO[bytes]) -> None:
        """Copy each line to the log and, prefixed with the program's name, to our output."""
        # Drop lines that cannot be written: a full pipe would block the program.
        with stream, RotatedLog(self.log) as log:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                self.last_lines.append(line)
                log.write(line)
                if self.echo:
                    say(f"{self.program.name:<8}| {line}")


class RotatedLog:
    """A log file that is moved to `<name>.1` when it is large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "RotatedLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def write(self, line: str) -> None:
        """Append a line. The line is lost if the disk is full or gone."""
        with contextlib.suppress(OSError):
            if self._file is not None and self._file.tell() > logs.KEEP_BYTES:
                self._file.close()
                self._file = None
            if self._file is None:
                self._file = logs.opened(self._path)
            self._file.write(line.encode(errors="replace") + b"\n")
            self._file.flush()


def say(text: str) -> None:
    """Print a line. Thread-safe."""
    # A closed terminal or pipe (`| head`) must not stop the site.
    with _terminal, contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def describe_end(code: int) -> str:
    """Return in words how a process ended."""
    return f"ended with status {code}" if code >= 0 else f"was killed by signal {-code}"
