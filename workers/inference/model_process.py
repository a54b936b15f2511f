"""Model processes, from the slot's side: each one runs one network, isolated from the slot.

They run `workers.inference.model_program`. Each process has its own limits of memory and run time, so a
network that exceeds them, hangs or crashes ends its process and not the slot.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from workers.inference import messages
from workers.inference.inputs import PlannedInput
from workers.inference.messages import SharedMemory
from workers.onnx_runtime import NO_TELEMETRY

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

# Default memory limit of a process: see `limit_memory`.
DEFAULT_MEMORY_BYTES = 4 * 1024**3
# Outputs may use at most 1/4 of a process's memory.
_OUTPUT_SHARE = 4
# Time for a fork, and for the launcher to load ONNX Runtime before the first one.
_START_SECONDS = 30.0
# Limits count CPU time. On a busy machine the wall time is longer by this factor and grace, in seconds.
_WALL_FACTOR, _WALL_GRACE = 4.0, 2.0
_ROOT = Path(__file__).resolve().parents[2]
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from workers.inference import model_program; sys.exit(model_program.main(sys.argv[2:]))"
)
# Huge pages save CPU time for address translation: 10 % on a virtual machine.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    **NO_TELEMETRY,
}
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Signals of the kernel: time limit exceeded, and killed because memory ran out.
_OUT_OF_TIME, _KILLED = ("SIGPROF", "SIGALRM"), "SIGKILL"


class ModelProcessError(Exception):
    """A model process did not complete an order."""


class Overran(ModelProcessError):
    """A run exceeded its time limit. The process has ended."""


class Crashed(ModelProcessError):
    """The process crashed, because of a fault in ONNX Runtime."""


class Killed(ModelProcessError):
    """The kernel killed the process, because the machine ran out of memory."""


class Failed(ModelProcessError):
    """ONNX Runtime failed to load or run the network. The process continues."""


class Launcher:
    """The process that forks model processes.

    A worker starts one before it forks its slots, and all slots share it. A slot starts another one if it
    has ended.
    """

    def __init__(self) -> None:
        self._channel, theirs = messages.make_pair()
        order = json.dumps({"control": theirs.fileno()})
        # It inherits nothing but the channel and the log: no environment, no other files.
        self._process = subprocess.Popen(  # noqa: S603 - this module builds the whole command
            [sys.executable, "-I", "-B", "-c", _START, str(_ROOT), order],
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    def fork(self, memory: int, channel: socket.socket) -> None:
        """Fork a process that listens at this end of a channel. Raises OSError."""
        messages.send(self._channel, {"memory": memory}, [channel.fileno()])

    def close(self) -> None:
        """Release the launcher. It ends when no slot uses it."""
        self._channel.close()
        if self._process.returncode is None:
            self._process.poll()


class _ProcessLauncher:
    """The launcher of this process, or of the worker that forked it."""

    launcher: Launcher | None = None
    memory = DEFAULT_MEMORY_BYTES
    lock = threading.Lock()


def start_launcher() -> None:
    """Start the launcher now, for this process and its later children."""
    with _ProcessLauncher.lock:
        if _ProcessLauncher.launcher is None:
            _ProcessLauncher.launcher = Launcher()


def limit_memory(most_bytes: int) -> None:
    """Set the address space limit of new model processes, in bytes."""
    _ProcessLauncher.memory = most_bytes


def memory_limit() -> int:
    """Return the address space limit of new model processes, in bytes."""
    return _ProcessLauncher.memory


def _fork(channel: socket.socket) -> None:
    with _ProcessLauncher.lock:
        for _ in range(2):
            if _ProcessLauncher.launcher is None:
                _ProcessLauncher.launcher = Launcher()
            try:
                _ProcessLauncher.launcher.fork(_ProcessLauncher.memory, channel)
            except OSError:
                logger.warning("The launcher of model processes has ended. Starting another one")
                _ProcessLauncher.launcher.close()
                _ProcessLauncher.launcher = None
            else:
                return
    raise Crashed("The launcher of model processes ends after each start.")


class ModelProcess:
    """One process with one network.

    Attributes:
        pid: process ID.
        shape: shape of the network's only input. None: any length.
        type: data type of that input, as ONNX Runtime names it.
    """

    def __init__(self, data: bytes, *, keeps_memory: bool, seconds: float) -> None:
        """Load a network.

        Args:
            data: an ONNX file.
            keeps_memory: see `workers.onnx_runtime.open_runtime_session`.
            seconds: CPU time limit for loading.

        Raises: Failed, Crashed, Killed, Overran, MemoryError.
        """
        self._pidfd = -1
        # Peak memory, as the process reports it.
        self._peak = 0
        self._input_memory: SharedMemory | None = None
        self._output_memory: SharedMemory | None = None
        self._most_output = _ProcessLauncher.memory // _OUTPUT_SHARE
        self._channel, theirs = messages.make_pair()
        try:
            _fork(theirs)
            theirs.close()
            self._wait_for_start()
            self._load(data, keeps_memory, seconds)
        except BaseException:
            theirs.close()
            self.kill()
            raise

    def _wait_for_start(self) -> None:
        try:
            answer = self._receive(_START_SECONDS)
        except (OSError, EOFError) as error:
            raise Crashed("The model process did not start.") from error
        self.pid = int(answer["pid"])
        self._pidfd = os.pidfd_open(self.pid)
        self._baseline = self._held = self._resident()
        _log_missing_layers(tuple(name for name, is_on in sorted(answer["layers"].items()) if not is_on))

    def _load(self, data: bytes, keeps_memory: bool, seconds: float) -> None:
        file = SharedMemory.create(len(data))
        try:
            file.view()[: len(data)] = data
            order = {
                "do": "load",
                "size": len(data),
                "capacity": file.size,
                "keeps_memory": keeps_memory,
            }
            answer = self._ask(order, seconds, file.descriptor)
        finally:
            file.close()
        with _check_answer():
            self.shape = tuple(None if side is None else int(side) for side in answer["shape"])
            self.type = str(answer["type"])

    def run(self, pixels: NDArray[Any] | PlannedInput, *, seconds: float) -> list[Floats]:
        """Run the network on one input; return all outputs, as copies.

        Args:
            seconds: CPU time limit of the run.

        Raises: Overran, Crashed, Killed, Failed, MemoryError.
        """
        if self._input_memory is None or self._input_memory.size < pixels.nbytes:
            self._input_memory = self._share("input", pixels.nbytes)
        target = self._input_memory.array(pixels.shape, pixels.dtype)
        if isinstance(pixels, PlannedInput):
            pixels.write(target)
        else:
            np.copyto(target, pixels)
        answer = self._ask({"do": "run", "shape": pixels.shape, "dtype": pixels.dtype.str}, seconds)
        if "needs" in answer:
            with _check_answer():
                needed = int(answer["needs"])
            self._output_memory = self._share("output", self._check_output_size(needed))
            answer = self._ask({"do": "deliver"}, seconds)
        with _check_answer():
            if answer["peak"] != self._peak:
                self._peak, self._held = answer["peak"], self._resident()
            return [self._copy_output(output) for output in answer["outputs"]]

    def growth(self) -> int:
        """Return the process's memory growth since it loaded its network, in bytes.

        Measured after the last run that raised the peak.
        """
        return max(0, self._held - self._baseline)

    def kill(self) -> None:
        """Kill the process, even during a run."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                logger.debug("The model process had ended.")
        self.close()

    def close(self) -> None:
        """Release the process. It ends when its channel is closed."""
        self._channel.close()
        for memory in (self._input_memory, self._output_memory):
            if memory is not None:
                memory.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # During interpreter shutdown, modules may be gone. The kernel closes everything then.
        if not is_finalizing():
            self.close()

    def _copy_output(self, output: dict[str, Any]) -> Floats:
        assert self._output_memory is not None
        shape: Sequence[int] = output["shape"]
        return np.array(self._output_memory.array(shape, np.float32, output["offset"]))

    def _check_output_size(self, needed: int) -> int:
        if needed > self._most_output:
            raise MemoryError(f"The outputs have {needed} bytes, above the limit of {self._most_output}.")
        return needed

    def _share(self, what: str, size: int) -> SharedMemory:
        memory = SharedMemory.create(size)
        try:
            order = {"do": "share", "what": what, "size": memory.size}
            self._ask(order, _START_SECONDS, memory.descriptor)
        finally:
            memory.close()
        return memory

    def _ask(self, order: dict[str, Any], seconds: float, *descriptors: int) -> dict[str, Any]:
        """Send an order and return its answer. Kill the process on any interruption."""
        began = time.monotonic()
        try:
            messages.send(self._channel, {**order, "seconds": seconds}, descriptors)
            answer = self._receive(_WALL_FACTOR * seconds + _WALL_GRACE)
        except (OSError, EOFError) as error:
            self.kill()
            self._explain_end("", time.monotonic() - began, seconds, error)
        except BaseException:
            self.kill()
            raise
        if "ended" in answer:
            self.kill()
            self._explain_end(str(answer["ended"]), time.monotonic() - began, seconds)
        if "error" not in answer:
            return answer
        if answer["error"] == "memory":
            raise MemoryError("The model process has no memory left.")
        raise Failed(str(answer.get("message", "")))

    def _explain_end(
        self, name: str, spent: float, seconds: float, error: Exception | None = None
    ) -> NoReturn:
        """Raise the error of a process that the signal `name` ended. "": unknown signal."""
        if name in _OUT_OF_TIME or isinstance(error, TimeoutError) or (not name and spent >= seconds):
            raise Overran(f"The process exceeded its time limit after {spent:.1f} s.") from error
        if name == _KILLED:
            raise Killed(f"The process was killed after {spent:.1f} s. Probably memory ran out.")
        raise Crashed(f"The process crashed after {spent:.1f} s ({name or 'no signal'}).") from error

    def _receive(self, seconds: float) -> dict[str, Any]:
        self._channel.settimeout(seconds)
        message, _ = messages.receive(self._channel)
        return message

    def _resident(self) -> int:
        try:
            text = Path(f"/proc/{self.pid}/statm").read_text()
        except OSError:
            return 0
        return int(text.split()[1]) * _PAGE


@contextmanager
def _check_answer() -> Iterator[None]:
    """Turn malformed answers into Crashed: the process runs an untrusted network."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise Crashed("The model process sent an invalid answer.") from error


@cache
def _log_missing_layers(missing: tuple[str, ...]) -> None:
    if missing:
        logger.warning("Model processes run without these isolation layers: %s", ", ".join(missing))
