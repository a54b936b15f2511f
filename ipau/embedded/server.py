"""Process of one embedded service: start, restart after a crash, stop."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ipau.embedded import logs
from ipau.embedded.account import ServiceAccount
from ipau.embedded.watchdog import Watchdog, end


@dataclass
class Server:
    """A server process. It keeps its address when `spawn` restarts it."""

    name: str
    url: str
    account: ServiceAccount
    command: Sequence[str | Path]
    log: Path
    pid_file: Path
    stop_signal: int
    stop_seconds: float
    stage: int
    watchdog: Watchdog
    process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start the process without waiting until it answers."""
        if self.process is not None:
            self.watchdog.drop(self.process.pid)
        with logs.opened(self.log) as output:
            self.process = self.account.popen(self.command, output)
        self.watchdog.add(
            self.process.pid, stop_signal=self.stop_signal, stage=self.stage, grace=self.stop_seconds
        )

    def has_died(self) -> bool:
        """Return whether the process has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        """Stop the server gracefully; kill it after `stop_seconds`."""
        if self.process is None:
            return
        if self.process.poll() is None:
            end(self.process.pid, self.stop_signal, self.stop_seconds)
        self.process.wait()
        self.watchdog.drop(self.process.pid)
        self.process = None
        self.pid_file.unlink(missing_ok=True)
