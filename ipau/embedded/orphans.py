"""Orphaned services: processes that outlived the process that started them."""

import contextlib
import subprocess
from pathlib import Path

from ipau.embedded.watchdog import end, is_alive


def end_orphan(pid_file: Path, *, mark: str, stop_signal: int, grace: float) -> None:
    """Stop the process in a pid file if it is ours, and delete the file.

    A process is ours if its command line contains `mark` (its folder). After a restart of the machine,
    another process may have the same id. The caller holds the lock of the data folder, so no site is running.
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
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        if Path("/proc/self").exists():
            return ""
    # Systems without /proc.
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout
