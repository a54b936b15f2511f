"""A process that ends our children when we are killed before we could.

Run as a script it reads JSON lines: `{"add": pid, "signal": n, "stage": n, "grace": seconds}`,
`{"drop": pid}`, `{"folder": path}`. When its input ends, the children that are still known are stopped,
stage by stage, and the folders are deleted. It imports only the standard library, so that it is small.
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
    """The side of the process that is watched over: tells the script whom to end."""

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
        """The id of the watching process."""
        return self._process.pid

    def add(self, pid: int, *, stop_signal: int, stage: int, grace: float) -> None:
        """Have process `pid`, the leader of its group, ended with us; lower stages end first."""
        self._tell({"add": pid, "signal": int(stop_signal), "stage": stage, "grace": grace})

    def drop(self, pid: int) -> None:
        """Forget a process that has ended."""
        self._tell({"drop": pid})

    def delete_folder(self, folder: Path) -> None:
        """Have a temporary folder deleted with us."""
        self._tell({"folder": str(folder)})

    def close(self) -> None:
        """Let the script end whoever is left and wait for it."""
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

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        # Without a watchdog the children are still stopped in the ordinary way.
        with self._writing, contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is more than a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # The state follows the command's name, which is in parentheses and may hold anything.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return not Path("/proc/self").exists()
    return state != "Z"


def end(pid: int, stop_signal: int, grace: float) -> None:
    """Ask a process to stop, wait up to `grace` seconds, then kill its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, stop_signal)
    wait_gone([pid], grace)
    kill_group(pid)


def kill_group(pid: int) -> None:
    """Kill what is left of the group that `pid` leads or led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def wait_gone(pids: list[int], seconds: float) -> bool:
    """Wait until none of the processes is alive; False when the time runs out first."""
    until = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def watch(lines: IO[str]) -> None:
    """Keep the books until the input ends, then end all that is in them."""
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
    # A Ctrl-C or a hang-up in the terminal is for those who are watched.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    watch(sys.stdin)
