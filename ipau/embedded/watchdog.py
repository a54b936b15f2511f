"""Watchdog process that stops our child processes if this process is killed.

Run as a script, it reads JSON lines: `{"add": pid, "signal": n, "stage": n, "grace": seconds}`,
`{"drop": pid}`, `{"folder": path}`. When its input ends, it stops the remaining children, stage by stage, and
deletes the folders. It imports only the standard library, so it needs little memory.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any


class Watchdog:
    """Handle of the watchdog process: tells it which processes to stop."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._owner = os.getpid()
        # Services start in threads of their own, and each line must stay whole.
        self._writing = threading.Lock()

    @property
    def pid(self) -> int:
        """Process id of the watchdog."""
        return self._process.pid

    def add(self, pid: int, *, stop_signal: int, stage: int, grace: float) -> None:
        """Stop process `pid`, the leader of its group, when this process ends. Lower stages stop first."""
        self._send({"add": pid, "signal": int(stop_signal), "stage": stage, "grace": grace})

    def drop(self, pid: int) -> None:
        """Forget a process that has ended."""
        self._send({"drop": pid})

    def delete_folder(self, folder: Path) -> None:
        """Delete a temporary folder when this process ends."""
        self._send({"folder": str(folder)})

    def close(self) -> None:
        """Let the watchdog stop the remaining children, and wait for it."""
        if os.getpid() != self._owner:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        # If the watchdog is gone, the children are still stopped in the normal way.
        with self._writing, contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # The state follows the command name, which is in parentheses and may contain any character.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return not Path("/proc/self").exists()
    return state != "Z"


def end(pid: int, stop_signal: int, grace: float) -> None:
    """Send a stop signal, wait up to `grace` seconds, then kill the process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, stop_signal)
    wait_gone([pid], grace)
    kill_group(pid)


def kill_group(pid: int) -> None:
    """Kill the rest of the process group that `pid` leads or led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def wait_gone(pids: list[int], seconds: float) -> bool:
    """Wait until all processes have ended; return False if the time runs out first."""
    until = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def watch(lines: IO[str]) -> None:
    """Track children and folders until the input ends, then stop and delete them."""
    children: dict[int, dict[str, Any]] = {}
    folders: list[str] = []
    for line in lines:
        message = json.loads(line)
        if "add" in message:
            children[message["add"]] = message
        elif "drop" in message:
            children.pop(message["drop"], None)
        else:
            folders.append(message["folder"])
    for stage in sorted({child["stage"] for child in children.values()}):
        _end_stage([child for child in children.values() if child["stage"] == stage])
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _end_stage(members: list[dict[str, Any]]) -> None:
    for child in members:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child["add"], child["signal"])
    wait_gone([child["add"] for child in members], max(child["grace"] for child in members))
    for child in members:
        kill_group(child["add"])


if __name__ == "__main__":
    # Ctrl-C and hang-ups of the terminal are for the main process.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    watch(sys.stdin)
