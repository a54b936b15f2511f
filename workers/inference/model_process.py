"""Model processes, as a slot sees them: each runs one network, out of reach of all that the slot holds.

`workers.inference.model_program` is what runs there. Each process has its own bounds of memory and of time
for a run, so what a network takes, hangs in or breaks costs this process and not the slot.
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

# What a process may hold where nobody says otherwise: `Launcher.memory`.
DEFAULT_MEMORY_BYTES = 4 * 1024**3
# Of the memory of a process, its outputs may take this part.
_OUTPUT_SHARE = 4
# For a fork, and for the launcher to load ONNX Runtime before its first one.
_START_SECONDS = 30.0
# A run is bounded by processor time. On a busy machine the same work takes so much longer.
_WALL_FACTOR, _WALL_GRACE = 4.0, 2.0
_ROOT = Path(__file__).resolve().parents[2]
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from workers.inference import model_program; sys.exit(model_program.main(sys.argv[2:]))"
)
# Large pages save the processor time that it spends on finding addresses: a tenth, on a virtual machine.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    **NO_TELEMETRY,
}
_PAGE = os.sysconf("SC_PAGE_SIZE")
# What the kernel ends a process with that has had its time, and one that it takes memory from.
_OUT_OF_TIME, _KILLED = ("SIGPROF", "SIGALRM"), "SIGKILL"


class ModelProcessError(Exception):
    """A model process did not do what it was asked to."""


class Overran(ModelProcessError):
    """A run took longer than it may. The process has ended."""


class Crashed(ModelProcessError):
    """The process ended by itself: a fault in ONNX Runtime."""


class Killed(ModelProcessError):
    """Somebody else ended the process. That is the kernel, where the machine has no memory left."""


class Failed(ModelProcessError):
    """ONNX Runtime refused to load or run the network. The process goes on."""


class Launcher:
    """The process that model processes are forked from.

    A worker starts one before its slots are forked from it: all of them ask the same one. A slot that finds
    it gone starts another.
    """

    def __init__(self) -> None:
        self._channel, theirs = messages.make_pair()
        order = json.dumps({"control": theirs.fileno()})
        # With nothing of this process: no environment, no files but the channel and the log.
        self._process = subprocess.Popen(  # noqa: S603 - every word of it comes from this code
            [sys.executable, "-I", "-B", "-c", _START, str(_ROOT), order],
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    def ask(self, memory: int, channel: socket.socket) -> None:
        """Have a process forked that listens at this end of a channel. Raises OSError."""
        messages.send(self._channel, {"memory": memory}, [channel.fileno()])

    def close(self) -> None:
        """Let it end once no slot holds on to it either."""
        self._channel.close()
        if self._process.returncode is None:
            self._process.poll()


class _Own:
    """The launcher of this process, or of the worker that it was forked from."""

    launcher: Launcher | None = None
    memory = DEFAULT_MEMORY_BYTES
    lock = threading.Lock()


def start_launcher() -> None:
    """Start the launcher now, for this process and those forked from it."""
    with _Own.lock:
        if _Own.launcher is None:
            _Own.launcher = Launcher()


def limit_memory(most_bytes: int) -> None:
    """Say how much address space each model process may have from now on."""
    _Own.memory = most_bytes


def memory_limit() -> int:
    """Return how much address space each model process may have, in bytes."""
    return _Own.memory


def _fork(channel: socket.socket) -> None:
    with _Own.lock:
        for _ in range(2):
            if _Own.launcher is None:
                _Own.launcher = Launcher()
            try:
                _Own.launcher.ask(_Own.memory, channel)
            except OSError:
                logger.warning("The launcher of model processes has ended: starting another")
                _Own.launcher.close()
                _Own.launcher = None
            else:
                return
    raise Crashed("No launcher of model processes stays alive.")


class ModelProcess:
    """One process with one network.

    Attributes:
        pid: its number.
        shape: of the network's one input; None for a side that may have any length.
        type: of that input's numbers, as ONNX Runtime names it.
    """

    def __init__(self, data: bytes, *, keeps_memory: bool, seconds: float) -> None:
        """Load a network.

        Args:
            data: an ONNX file.
            keeps_memory: as `workers.onnx_runtime.open_runtime_session` takes it.
            seconds: of processor time, for loading.

        Raises: Failed, Crashed, Killed, Overran, MemoryError.
        """
        self._pidfd = -1
        # The most memory that it has held, as it says itself.
        self._peak = 0
        self._given: SharedMemory | None = None
        self._made: SharedMemory | None = None
        self._most_output = _Own.memory // _OUTPUT_SHARE
        self._channel, theirs = messages.make_pair()
        try:
            _fork(theirs)
            theirs.close()
            self._meet()
            self._load(data, keeps_memory, seconds)
        except BaseException:
            theirs.close()
            self.kill()
            raise

    def _meet(self) -> None:
        try:
            said = self._receive(_START_SECONDS)
        except (OSError, EOFError) as error:
            raise Crashed("It did not start.") from error
        self.pid = int(said["pid"])
        self._pidfd = os.pidfd_open(self.pid)
        self._baseline = self._held = self._resident()
        _note_walls(tuple(name for name, stands in sorted(said["walls"].items()) if not stands))

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
            said = self._ask(order, seconds, file.descriptor)
        finally:
            file.close()
        with _reading_answer():
            self.shape = tuple(None if side is None else int(side) for side in said["shape"])
            self.type = str(said["type"])

    def run(self, pixels: NDArray[Any] | PlannedInput, *, seconds: float) -> list[Floats]:
        """Run the network over one input; return all outputs, as copies.

        Args:
            seconds: of processor time that the run may take.

        Raises: Overran, Crashed, Killed, Failed, MemoryError.
        """
        if self._given is None or self._given.size < pixels.nbytes:
            self._given = self._share("input", pixels.nbytes)
        given = self._given.array(pixels.shape, pixels.dtype)
        if isinstance(pixels, PlannedInput):
            pixels.write(given)
        else:
            np.copyto(given, pixels)
        said = self._ask({"do": "run", "shape": pixels.shape, "dtype": pixels.dtype.str}, seconds)
        if "needs" in said:
            with _reading_answer():
                needed = int(said["needs"])
            self._made = self._share("output", self._check_room(needed))
            said = self._ask({"do": "deliver"}, seconds)
        with _reading_answer():
            if said["peak"] != self._peak:
                self._peak, self._held = said["peak"], self._resident()
            return [self._take(place) for place in said["outputs"]]

    def growth(self) -> int:
        """Return how many bytes of memory it holds more than before it loaded its network.

        As seen after the last run that took more than those before it.
        """
        return max(0, self._held - self._baseline)

    def kill(self) -> None:
        """End it, whatever it is in the middle of."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                logger.debug("The model process had ended.")
        self.close()

    def close(self) -> None:
        """Let it end: it does when nobody holds the other end of its channel."""
        self._channel.close()
        for memory in (self._given, self._made):
            if memory is not None:
                memory.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of this process its modules may be gone already, and the kernel closes everything.
        if not is_finalizing():
            self.close()

    def _take(self, place: dict[str, Any]) -> Floats:
        assert self._made is not None
        shape: Sequence[int] = place["shape"]
        return np.array(self._made.array(shape, np.float32, place["offset"]))

    def _check_room(self, needed: int) -> int:
        if needed > self._most_output:
            raise MemoryError(f"The outputs take {needed} bytes.")
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
        """Have an order carried out. Whatever interrupts the waiting ends the process."""
        began = time.monotonic()
        try:
            messages.send(self._channel, {**order, "seconds": seconds}, descriptors)
            said = self._receive(_WALL_FACTOR * seconds + _WALL_GRACE)
        except (OSError, EOFError) as error:
            self.kill()
            self._explain_end("", time.monotonic() - began, seconds, error)
        except BaseException:
            self.kill()
            raise
        if "ended" in said:
            self.kill()
            self._explain_end(str(said["ended"]), time.monotonic() - began, seconds)
        if "error" not in said:
            return said
        if said["error"] == "memory":
            raise MemoryError("The model process has no memory left.")
        raise Failed(str(said.get("said", "")))

    def _explain_end(
        self, name: str, spent: float, seconds: float, error: Exception | None = None
    ) -> NoReturn:
        """Raise for a process that ended by the signal `name`, or in an unknown way."""
        if name in _OUT_OF_TIME or isinstance(error, TimeoutError) or (not name and spent >= seconds):
            raise Overran(f"It was ended after {spent:.1f} s.") from error
        if name == _KILLED:
            raise Killed(f"It was killed after {spent:.1f} s, as the kernel does where memory runs out.")
        raise Crashed(f"It ended by itself after {spent:.1f} s ({name or 'no signal'}).") from error

    def _receive(self, seconds: float) -> dict[str, Any]:
        self._channel.settimeout(seconds)
        message, _ = messages.receive(self._channel)
        return message

    def _resident(self) -> int:
        try:
            said = Path(f"/proc/{self.pid}/statm").read_text()
        except OSError:
            return 0
        return int(said.split()[1]) * _PAGE


@contextmanager
def _reading_answer() -> Iterator[None]:
    """Believe nothing of what a process says that runs a stranger's network."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise Crashed("It answered what no model process does.") from error


@cache
def _note_walls(missing: tuple[str, ...]) -> None:
    if missing:
        logger.warning("Model processes run without these walls: %s", ", ".join(missing))
