"""One supervised program: its process, its output, how often it died lately."""

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

# Longer than a start takes on a busy machine.
QUICK_SECONDS = 30.0
MOST_QUICK_DEATHS = 5
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
LINES_KEPT = 15

_terminal = threading.Lock()


@dataclass(frozen=True)
class Program:
    """What to run, and how to end it. Lower stages end first."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    stop_signal: int
    stop_seconds: float
    stage: int
    sockets: tuple[int, ...] = ()
    """Listening sockets that it inherits."""
    orphan_seconds: float = 0.0
    """How long its own processes may go on when it was killed, while another one starts."""


@dataclass
class Child:
    """A program that is kept running."""

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
        """Start the program as the leader of a process group, so that a Ctrl-C reaches only us."""
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
        """Start the program again if it died and its pause is over; return a line to log, if any.

        A life shorter than `QUICK_SECONDS` doubles the pause before the next one.
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
        # One that ran for long is started at once: somebody waits for it.
        pause = min(FIRST_PAUSE * 2 ** (self.quick_deaths - 1), LONGEST_PAUSE) if self.quick_deaths else 0.0
        self._not_before = now + pause
        return f"{self.program.name} {describe_end(code)}; starting it again in {pause:g} s"

    @property
    def has_failed(self) -> bool:
        """Tell whether it died so often and so quickly that trying again is pointless."""
        return self.quick_deaths >= MOST_QUICK_DEATHS

    def ask_to_stop(self) -> None:
        """Send the program's own signal, without waiting."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.program.stop_signal)

    def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for the end, then kill what is left."""
        self._orphans.end()
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=max(seconds, 0))
        self._clear(self.process)

    def _clear(self, process: subprocess.Popen[bytes]) -> None:
        # Children of the program that outlived it go too: they would keep ports, rows and memory.
        kill_group(process.pid)
        process.wait()
        self.watchdog.drop(process.pid)
        if self._pump is not None:
            self._pump.join(timeout=2)
        self.process = None

    def _copy_output(self, stream: IO[bytes]) -> None:
        """Copy each line into the log and, with the program's name before it, to our own output."""
        # Whatever cannot be written is dropped: an unread pipe would stop the program.
        with stream, RotatedLog(self.log) as log:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                self.last_lines.append(line)
                log.write(line)
                if self.echo:
                    say(f"{self.program.name:<8}| {line}")


class RotatedLog:
    """A log file that is moved to `<name>.1` when it has grown large."""

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
        """Append a line; a disk that is full or gone loses it, and nothing else."""
        with contextlib.suppress(OSError):
            if self._file is not None and self._file.tell() > logs.KEEP_BYTES:
                self._file.close()
                self._file = None
            if self._file is None:
                self._file = logs.opened(self._path)
            self._file.write(line.encode(errors="replace") + b"\n")
            self._file.flush()


def say(text: str) -> None:
    """Print a line, whole, whichever thread prints it."""
    # A reader that has gone (a closed terminal, `| head`) must not end the site.
    with _terminal, contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def describe_end(code: int) -> str:
    """Say in words how a process ended."""
    return f"ended with status {code}" if code >= 0 else f"was killed by signal {-code}"
