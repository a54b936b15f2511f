"""The program of model processes: it runs one network for a slot, and can do nothing else.

A worker starts it once, with an empty environment. It loads ONNX Runtime, gives everything away (user,
network, files, most system calls), and forks a process for each network that a slot asks for. So a process is
there within milliseconds, and none of them ever held a credential.

The kernel ends a process whose run takes more processor time than it was given, whatever it is in the middle
of, and whether or not its slot still lives.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import numpy as np

from workers.inference import messages
from workers.inference.messages import SharedMemory
from workers.isolation import landlock, process, seccomp
from workers.onnx_runtime import is_out_of_memory, open_runtime_session

# A slot that has been killed cannot end a run. No run takes so long.
_WALL_SECONDS = 120.0
_MOST_ERROR_CHARACTERS = 1000
# The end of its channel that each living model process has, by which its slot is told how it ended.
_channels: dict[int, int] = {}
# An ONNX file (opset 13) whose one node, Identity, gives its input `x` of 1 x 1 numbers back as `y`.
_NOTHING = bytes.fromhex(
    "08083a3f0a100a017812017922084964656e746974791201675a130a0178120e0a0c080112080a020801"
    "0a02080162130a0179120e0a0c080112080a0208010a02080142040a00100d"
)


def main(arguments: Sequence[str]) -> int:
    """Serve the slots of a worker until all of them have ended. `arguments` is one JSON object."""
    order = json.loads(arguments[0])
    control = _open_channel(int(order["control"]))
    process.lower_priority()
    process.end_first_without_memory()
    # Before ONNX Runtime is loaded: only a process of one thread may leave for a user namespace of its own.
    walls = {"network": process.leave_network()}
    _load_runtime()
    signal.signal(signal.SIGCHLD, _reap)
    walls |= _shut_in()
    gc.collect()
    gc.freeze()
    while True:
        try:
            asked, descriptors = messages.receive(control, most_descriptors=1)
        except EOFError:
            return 0
        # Whoever ends at once is not missed.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            control.close()
            for channel in _channels.values():
                os.close(channel)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            _serve(_open_channel(descriptors[0]), asked, walls)
        _channels[pid] = descriptors[0]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _open_channel(descriptor: int) -> socket.socket:
    # With all that Python would ask the kernel for: it may not ask later on.
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)


def _load_runtime() -> None:
    """Do once what each process would do with its first network: a run of one that does nothing."""
    session = open_runtime_session(_NOTHING, keeps_memory=False)
    session.run(None, {"x": np.zeros((1, 1), np.float32)})


def _shut_in() -> dict[str, bool]:
    """Give away all but computing and forking. Return which walls stand."""
    walls = {"user": process.leave_root()}
    process.refuse_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    walls["files"] = landlock.restrict([], [])
    walls["system_calls"] = seccomp.restrict((*seccomp.COMPUTING, *seccomp.FORKING))
    return walls


def _reap(_signal: int, _frame: FrameType | None) -> None:
    """Tell slots and the log how model processes ended that crashed, or that the kernel ended."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            descriptor = _channels.pop(pid, None)
            if os.WIFSIGNALED(status):
                name = signal.Signals(os.WTERMSIG(status)).name
                os.write(2, f"model process {pid} ended by {name}\n".encode())
                _tell_end(descriptor, name)
            if descriptor is not None:
                os.close(descriptor)


def _tell_end(descriptor: int | None, name: str) -> None:
    if descriptor is None:
        return
    channel = _open_channel(descriptor)
    # A slot that has ended reads nothing, and one that does not read is not waited for.
    with suppress(OSError):
        flags = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
        socket.send_fds(channel, [json.dumps({"ended": name}).encode()], [], flags)
    channel.detach()


def _serve(channel: socket.socket, asked: Mapping[str, Any], walls: Mapping[str, bool]) -> NoReturn:
    """Load one network, run it until the slot has no more use for it, and end this process."""
    try:
        _limit(int(asked["memory"]))
        messages.send(channel, {"pid": os.getpid(), "walls": dict(walls)})
        network = _NetworkRunner()
        while True:
            order, descriptors = messages.receive(channel, most_descriptors=2)
            messages.send(channel, network.obey(order, descriptors))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except BaseException:  # noqa: BLE001  (all that is left is to say so: the launcher must not go on twice)
        traceback.print_exc()
        os._exit(1)


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    seccomp.restrict(seccomp.COMPUTING)
    # At the end of its time the kernel ends this process, though Python or ONNX Runtime be busy.
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)


class _NetworkRunner:
    """The network of this process, and the memory that it shares with the slot."""

    def __init__(self) -> None:
        self._session: Any = None
        self._input = ""
        self._given: SharedMemory | None = None
        self._made: SharedMemory | None = None
        self._outputs: list[Any] = []

    def obey(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        """Do what the slot asks for, within its time; return what to answer."""
        _set_time_limit(float(order["seconds"]))
        try:
            return self._do(order, descriptors)
        except MemoryError:
            return {"error": "memory"}
        except Exception as error:  # noqa: BLE001  (the slot sorts and logs it)
            name = "memory" if is_out_of_memory(error) else "fault"
            return {"error": name, "said": str(error)[:_MOST_ERROR_CHARACTERS]}
        finally:
            _set_time_limit(0)

    def _do(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        match order["do"]:
            case "load":
                return self._load(descriptors[0], order)
            case "share":
                return self._share(descriptors[0], order)
            case "run":
                return self._run(order)
            case _:
                return self._deliver()

    def _load(self, descriptor: int, order: Mapping[str, Any]) -> dict[str, Any]:
        file = SharedMemory(descriptor, int(order["capacity"]))
        data = bytes(file.view()[: int(order["size"])])
        file.close()
        self._session = open_runtime_session(data, keeps_memory=bool(order["keeps_memory"]))
        first = self._session.get_inputs()[0]
        self._input = first.name
        shape = [size if isinstance(size, int) and size > 0 else None for size in first.shape]
        return {"shape": shape, "type": first.type}

    def _share(self, descriptor: int, order: Mapping[str, Any]) -> dict[str, Any]:
        memory = SharedMemory(descriptor, int(order["size"]))
        memory.close()
        if order["what"] == "input":
            self._given = memory
        else:
            self._made = memory
        return {}

    def _run(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self._given is not None
        pixels = self._given.array(order["shape"], order["dtype"])
        outputs = self._session.run(None, {self._input: pixels})
        self._outputs = [np.asarray(output, np.float32) for output in outputs]
        return self._deliver()

    def _deliver(self) -> dict[str, Any]:
        """Put the outputs where the slot sees them, or say how much room they need."""
        places, end = [], 0
        for output in self._outputs:
            places.append({"shape": output.shape, "offset": end})
            end = messages.aligned(end + output.nbytes)
        if self._made is None or self._made.size < end:
            return {"needs": end}
        for output, place in zip(self._outputs, places, strict=True):
            np.copyto(self._made.array(output.shape, np.float32, place["offset"]), output)
        self._outputs = []
        return {"outputs": places, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def _set_time_limit(seconds: float) -> None:
    """Let the kernel end this process after so many seconds of its processor time; 0: never."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, _WALL_SECONDS if seconds else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
