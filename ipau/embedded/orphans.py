"""Services that outlived the process that had started them."""

import contextlib
import subprocess
from pathlib import Path

from ipau.embedded.watchdog import end, is_alive


def end_orphan(pid_file: Path, *, mark: str, stop_signal: int, grace: float) -> None:
    """End the process a pid file names if it is ours, and delete the file.

    Only a process whose command line holds `mark` (its own folder) is ours: after a restart of the machine
    the number may belong to anybody. The caller holds the data folder's lock, so no living owner is hurt.
    """
    try:
        pid = int(pid_file.read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        pid = 0
    if pid > 1 and is_alive(pid) and mark in command_line(pid):
        end(pid, stop_signal, grace)
    with contextlib.suppress(FileNotFoundError):
        pid_file.unlink()


def command_line(pid: int) -> str:
    """Return the words a process was started with, or nothing if it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        if Path("/proc/self").exists():
            return ""
    # Systems without /proc.
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout
