"""Program of model processes: it runs one network for a slot, isolated from everything else.

A worker starts it once, with an empty environment. It loads ONNX Runtime, drops its rights (user, network,
files, most system calls), and forks a process for each network that a slot requests. So a process starts
within milliseconds, and none of them ever had a credential.

The kernel ends a process when its run exceeds the CPU time limit, even if its slot has died.
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

# Wall time limit of a run, in case its slot was killed. No run takes longer.
_WALL_SECONDS = 120.0
_MOST_ERROR_CHARACTERS = 1000
# Channel of each running model process by its ID, to tell its slot how it ended.
_channels: dict[int, int] = {}
# An ONNX file (opset 13) with one node, Identity, from input `x` to output `y`, both 1 x 1.
_IDENTITY = bytes.fromhex(
    "08083a3f0a100a017812017922084964656e746974791201675a130a0178120e0a0c080112080a020801"
    "0a02080162130a0179120e0a0c080112080a0208010a02080142040a00100d"
)


def main(arguments: Sequence[str]) -> int:
    """Serve the slots of a worker until all of them have ended. `arguments` is one JSON object."""
    order = json.loads(arguments[0])
    control = _open_channel(int(order["control"]))
    process.lower_priority()
    process.end_first_without_memory()
    # Before ONNX Runtime is loaded: only a single-threaded process may create a user namespace.
    layers = {"network": process.leave_network()}
    _load_runtime()
    signal.signal(signal.SIGCHLD, _reap)
    layers |= _drop_rights()
    gc.collect()
    gc.freeze()
    while True:
        try:
            request, descriptors = messages.receive(control, most_descriptors=1)
        except EOFError:
            return 0
        # Block SIGCHLD until the child is registered, in case it ends at once.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            control.close()
            for channel in _channels.values():
                os.close(channel)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            _serve(_open_channel(descriptors[0]), request, layers)
        _channels[pid] = descriptors[0]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _open_channel(descriptor: int) -> socket.socket:
    # Pass family and type, because seccomp forbids the system calls by which Python would find them.
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)


def _load_runtime() -> None:
    """Run an identity network once, so that forked processes need no first-run initialization."""
    session = open_runtime_session(_IDENTITY, keeps_memory=False)
    session.run(None, {"x": np.zeros((1, 1), np.float32)})


def _drop_rights() -> dict[str, bool]:
    """Drop all rights except computing and forking. Return the active isolation layers."""
    layers = {"user": process.leave_root()}
    process.refuse_privileges()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    layers["files"] = landlock.restrict([], [])
    layers["system_calls"] = seccomp.restrict((*seccomp.COMPUTING, *seccomp.FORKING))
    return layers


def _reap(_signal: int, _frame: FrameType | None) -> None:
    """Reap ended model processes. Report those that a signal ended to their slots and the log."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            descriptor = _channels.pop(pid, None)
            if os.WIFSIGNALED(status):
                name = signal.Signals(os.WTERMSIG(status)).name
                os.write(2, f"model process {pid} ended by {name}\n".encode())
                _report_end(descriptor, name)
            if descriptor is not None:
                os.close(descriptor)


def _report_end(descriptor: int | None, name: str) -> None:
    if descriptor is None:
        return
    channel = _open_channel(descriptor)
    # The slot may have ended, or not read: do not wait for it.
    with suppress(OSError):
        flags = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
        socket.send_fds(channel, [json.dumps({"ended": name}).encode()], [], flags)
    channel.detach()


def _serve(channel: socket.socket, request: Mapping[str, Any], layers: Mapping[str, bool]) -> NoReturn:
    """Load one network, run it until the slot closes the channel, and end this process."""
    try:
        _limit(int(request["memory"]))
        messages.send(channel, {"pid": os.getpid(), "layers": dict(layers)})
        network = _NetworkRunner()
        while True:
            order, descriptors = messages.receive(channel, most_descriptors=2)
            messages.send(channel, network.obey(order, descriptors))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except BaseException:  # noqa: BLE001  (this child must never return to the launcher's loop)
        traceback.print_exc()
        os._exit(1)


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    seccomp.restrict(seccomp.COMPUTING)
    # Default handlers: the kernel ends this process even while Python or ONNX Runtime is busy.
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)


class _NetworkRunner:
    """The network of this process, and its shared memory with the slot."""

    def __init__(self) -> None:
        self._session: Any = None
        self._input = ""
        self._input_memory: SharedMemory | None = None
        self._output_memory: SharedMemory | None = None
        self._outputs: list[Any] = []

    def obey(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        """Carry out an order within its time limit; return the answer."""
        _set_time_limit(float(order["seconds"]))
        try:
            return self._do(order, descriptors)
        except MemoryError:
            return {"error": "memory"}
        except Exception as error:  # noqa: BLE001  (the slot classifies and logs it)
            name = "memory" if is_out_of_memory(error) else "fault"
            return {"error": name, "message": str(error)[:_MOST_ERROR_CHARACTERS]}
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
            self._input_memory = memory
        else:
            self._output_memory = memory
        return {}

    def _run(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self._input_memory is not None
        pixels = self._input_memory.array(order["shape"], order["dtype"])
        outputs = self._session.run(None, {self._input: pixels})
        self._outputs = [np.asarray(output, np.float32) for output in outputs]
        return self._deliver()

    def _deliver(self) -> dict[str, Any]:
        """Copy the outputs to shared memory, or answer with the bytes that they need."""
        entries, end = [], 0
        for output in self._outputs:
            entries.append({"shape": output.shape, "offset": end})
            end = messages.aligned(end + output.nbytes)
        if self._output_memory is None or self._output_memory.size < end:
            return {"needs": end}
        for output, entry in zip(self._outputs, entries, strict=True):
            np.copyto(self._output_memory.array(output.shape, np.float32, entry["offset"]), output)
        self._outputs = []
        return {"outputs": entries, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def _set_time_limit(seconds: float) -> None:
    """Make the kernel end this process after this much of its CPU time, in seconds. 0: never."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, _WALL_SECONDS if seconds else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
