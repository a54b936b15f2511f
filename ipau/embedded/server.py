"""One service process: how it is started, started again after a crash, and stopped."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ipau.embedded import logs
from ipau.embedded.account import ServiceAccount
from ipau.embedded.watchdog import Watchdog, end


@dataclass
class Server:
    """A server that `spawn` starts and that keeps its address when it is started again."""

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
        """Start the process, without waiting until it answers."""
        if self.process is not None:
            self.watchdog.drop(self.process.pid)
        with logs.opened(self.log) as output:
            self.process = self.account.popen(self.command, output)
        self.watchdog.add(
            self.process.pid, stop_signal=self.stop_signal, stage=self.stage, grace=self.stop_seconds
        )

    def has_died(self) -> bool:
        """Tell whether the process has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        """Let the server write everything down and end; kill it if that takes too long."""
        if self.process is None:
            return
        if self.process.poll() is None:
            end(self.process.pid, self.stop_signal, self.stop_seconds)
        self.process.wait()
        self.watchdog.drop(self.process.pid)
        self.process = None
        self.pid_file.unlink(missing_ok=True)
