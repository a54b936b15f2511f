"""Model processes: a network that exceeds its limits, hangs or crashes does not harm the slot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.workers.inference import bombs
from workers.bundle import FolderModel
from workers.cache import Cache
from workers.inference import messages, model_process
from workers.inference.errors import ModelFault
from workers.inference.model_process import Crashed, Failed, ModelProcess, Overran
from workers.inference.sessions import IsolatedNetwork, get_session, open_session
from workers.plugin import Context

MIB = 2**20
SHAPE = (1, 3, bombs.SIDE, bombs.SIDE)
BRIGHT, DARK = np.full(SHAPE, bombs.BRIGHT, np.float32), np.zeros(SHAPE, np.float32)


class Graph:
    """A converted model with only a graph. It counts its reads."""

    def __init__(self, data: bytes, key: str = "f" * 64) -> None:
        self.key, self.facts, self.reads = key, {}, 0
        self._data = data

    def read(self, name: str, /) -> bytes:
        assert name == "model.onnx"
        self.reads += 1
        return self._data


@pytest.fixture
def little_memory() -> Iterator[int]:
    """Limit model processes to 1 GiB of address space."""
    most = 1024 * MIB
    model_process.limit_memory(most)
    yield most
    model_process.limit_memory(model_process.DEFAULT_MEMORY_BYTES)


def start(data: bytes) -> ModelProcess:
    return ModelProcess(data, keeps_memory=True, seconds=10)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(pid: int) -> None:
    until = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < until, f"{pid} still runs"
        time.sleep(0.01)


# --- Results.


def test_the_outputs_equal_those_of_a_local_session(model_of: Callable[[str], FolderModel]) -> None:
    data = model_of("yolo11n").read("model.onnx")
    here, process = open_session(data), start(data)
    assert process.shape == here.shape
    generator = np.random.default_rng(1)
    # The second input is larger, so the shared memory grows.
    for side in (64, 320, 64):
        pixels = generator.random((1, 3, side, side), np.float32)
        wanted, got = here.run(pixels), process.run(pixels, seconds=10)
        assert [one.dtype for one in got] == [np.float32] * len(wanted)
        for one, other in zip(wanted, got, strict=True):
            np.testing.assert_array_equal(one, other)


def test_outputs_stay_when_it_runs_again() -> None:
    process = start(bombs.never_ending())
    first = process.run(np.full(SHAPE, 0.25, np.float32), seconds=10)[0]
    process.run(np.full(SHAPE, 0.5, np.float32), seconds=10)
    assert (first == 0.25).all()


def test_a_wrong_input_costs_nothing() -> None:
    process = start(bombs.never_ending())
    with pytest.raises(Failed):
        process.run(np.zeros((1, 3, 5, 5), np.float32), seconds=10)
    assert (process.run(DARK, seconds=10)[0] == 0).all()


def test_an_invalid_graph_is_not_loaded() -> None:
    with pytest.raises(Failed):
        start(b"nothing of the kind")


# --- Limits, timeouts and crashes.


def test_a_run_that_never_ends_is_ended() -> None:
    process = start(bombs.never_ending())
    assert (process.run(DARK, seconds=10)[0] == 0).all()
    began = time.monotonic()
    with pytest.raises(Overran):
        process.run(BRIGHT, seconds=0.5)
    assert time.monotonic() - began < 5
    wait_for_end(process.pid)


def test_a_run_ends_at_its_time_limit_after_its_slot_was_killed() -> None:
    """A killed slot cannot end its run."""
    code = f"""
import os, signal, threading, numpy as np
from tests.workers.inference import bombs
from workers.inference.model_process import ModelProcess
process = ModelProcess(bombs.never_ending(), keeps_memory=True, seconds=10)
print(process.pid, flush=True)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
process.run(np.ones({SHAPE}, np.float32), seconds=1.5)
"""
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    assert ran.returncode == -signal.SIGKILL
    pid = int(ran.stdout)
    assert is_alive(pid)
    wait_for_end(pid)


def test_an_interruption_ends_the_process() -> None:
    class Ended(BaseException):
        pass

    def ring(*_: object) -> None:
        raise Ended

    process = start(bombs.never_ending())
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Ended):
            process.run(BRIGHT, seconds=30)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    wait_for_end(process.pid)


def test_a_crash_ends_only_the_model_process() -> None:
    process = start(bombs.never_ending())
    threading.Timer(0.2, os.kill, (process.pid, signal.SIGSEGV)).start()
    with pytest.raises(Crashed):
        process.run(BRIGHT, seconds=30)


def test_a_kill_by_the_kernel_is_reported_as_lack_of_memory() -> None:
    """Only the kernel sends SIGKILL to a model process."""
    network = IsolatedNetwork(Graph(bombs.never_ending()), 20, keeps_memory=True)
    (process,) = network._idle
    threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL)).start()
    with pytest.raises(ModelFault, match=r"machine ran out of memory .* smaller image") as fault:
        network.run(BRIGHT, 30)
    assert (fault.value.code, fault.value.killed) == ("no_memory", "f" * 64)
    assert (network.run(DARK, 20)[0] == 0).all()


def test_memory_is_bounded(little_memory: int) -> None:
    process = start(bombs.memory_hog(megabytes=1200))
    with pytest.raises(MemoryError):
        process.run(BRIGHT, seconds=20)
    # The process continues: only the allocation failed.
    assert (process.run(DARK, seconds=10)[0] == 0).all()


def test_outputs_are_bounded(little_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(bombs.never_ending())
    monkeypatch.setattr(process, "_most_output", 1000)
    with pytest.raises(MemoryError):
        process.run(DARK, seconds=10)


def test_a_process_ends_with_its_last_user() -> None:
    process = start(bombs.never_ending())
    pid = process.pid
    assert is_alive(pid)
    del process
    wait_for_end(pid)


def test_a_lost_launcher_is_replaced() -> None:
    start(bombs.never_ending())
    launcher = model_process._ProcessLauncher.launcher
    assert launcher is not None
    launcher._process.kill()
    launcher._process.wait()
    assert (start(bombs.never_ending()).run(DARK, seconds=10)[0] == 0).all()


# --- Cache between images.


def test_a_network_is_cached_with_its_measured_size() -> None:
    context = Context(model=Graph(bombs.memory_hog(megabytes=200)), memo=Cache(1024 * MIB))
    session = get_session(context)
    assert context.memo is not None
    session.run(DARK)
    before = context.memo.used_bytes  # type: ignore[attr-defined]
    session.run(BRIGHT)
    grown = context.memo.used_bytes - before  # type: ignore[attr-defined]
    assert 190 * MIB < grown < 260 * MIB


def test_a_network_that_outgrows_the_cache_is_evicted() -> None:
    """The next owner's model has the whole cache."""
    graph = Graph(bombs.memory_hog(megabytes=400))
    cache = Cache(256 * MIB)
    context = Context(model=graph, memo=cache)
    for _ in range(2):
        session = get_session(context)
        assert np.allclose(session.run(BRIGHT)[0], BRIGHT, atol=0.01)
        del session
        assert cache.used_bytes == 0
        assert len(cache) == 0
    assert graph.reads == 2


def test_memory_of_an_earlier_image_does_not_fail_the_next(little_memory: int) -> None:
    """Each branch fits alone, but not together with the memory that the arena keeps for the other."""
    graph = Graph(bombs.two_hogs(megabytes=530, otherwise=300))
    network = IsolatedNetwork(graph, 20, keeps_memory=True)
    for pixels in (DARK, BRIGHT, DARK):
        outputs = network.run(pixels, 20)
        assert np.allclose(outputs[0], pixels, atol=0.01)
    assert graph.reads > 1


def test_a_run_above_the_memory_limit_is_reported(little_memory: int) -> None:
    session = get_session(Context(model=Graph(bombs.memory_hog(megabytes=1200))))
    with pytest.raises(ModelFault) as fault:
        session.run(BRIGHT)
    assert fault.value.code == "no_memory"
    assert "more memory for this image than the 1 GiB that a model may use" in fault.value.message
    assert "smaller image, or lower the image size" in fault.value.message
    assert "IPAU_MODEL_MEMORY_BYTES" in fault.value.message
    assert not fault.value.killed


def test_the_context_sets_the_time_limit_of_a_run() -> None:
    session = get_session(Context(model=Graph(bombs.never_ending()), network_seconds=0.5))
    with pytest.raises(ModelFault) as fault:
        session.run(BRIGHT)
    assert fault.value.code == "too_slow"
    assert fault.value.killed == "f" * 64
    # Another process takes its place.
    assert (session.run(DARK)[0] == 0).all()


def test_several_threads_have_a_process_each() -> None:
    network = IsolatedNetwork(Graph(bombs.never_ending()), 20, keeps_memory=True)
    faults: list[ModelFault] = []

    def hang() -> None:
        try:
            network.run(BRIGHT, 1.0)
        except ModelFault as fault:
            faults.append(fault)

    thread = threading.Thread(target=hang)
    thread.start()
    time.sleep(0.2)
    assert (network.run(DARK, 20)[0] == 0).all()
    assert thread.is_alive()
    thread.join()
    assert [fault.code for fault in faults] == ["too_slow"]


# --- Isolation.


_ATTEMPTS = """
import ctypes, json, mmap, os, resource, signal, socket, subprocess, sys, threading
from workers.inference import model_program
from workers.isolation import process, seccomp

theirs = socket.socket(fileno=int(sys.argv[1]))
victim = int(sys.argv[2])
secret = sys.argv[3]
layers = {"network": process.leave_network(), **model_program._drop_rights()}
model_program._limit(1 << 32)
libc = ctypes.CDLL(None, use_errno=True)

def system_call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

attempts = {
    "read a file": lambda: open(secret).read(),
    "read the environment of another": lambda: open(f"/proc/{victim}/environ").read(),
    "write a file": lambda: open("/tmp/ipau-escaped", "w"),
    "list a folder": lambda: os.listdir("/"),
    "connect": lambda: socket.socket(socket.AF_INET).connect(("127.0.0.1", 80)),
    "make a socket": lambda: socket.socket(socket.AF_UNIX),
    "fork": os.fork,
    "start a program": lambda: os.execv("/bin/true", ["true"]),
    "start a thread": lambda: threading.Thread(target=print).start(),
    "kill": lambda: os.kill(victim, signal.SIGTERM),
    "trace": lambda: system_call(101, 16, victim, 0, 0),
    "read memory of another": lambda: system_call(310, victim, 0, 0, 0, 0, 0),
    "run what it wrote": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "take more memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
    "change the user": lambda: os.setuid(0),
    "mount": lambda: system_call(165, b"/", b"/", 0, 0, 0),
}
done = {}
for name, attempt in attempts.items():
    try:
        attempt()
        done[name] = "succeeded"
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        done[name] = type(error).__name__
theirs.send(json.dumps([layers, done]).encode())
os._exit(0)
"""


def test_a_model_process_can_do_nothing_but_compute(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("credentials")
    victim = subprocess.Popen(["/bin/sleep", "60"])
    ours, theirs = messages.make_pair()
    try:
        ran = subprocess.run(
            [sys.executable, "-c", _ATTEMPTS, str(theirs.fileno()), str(victim.pid), str(secret)],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        layers, done = json.loads(ours.recv(65536))
    finally:
        victim.kill()
        victim.wait()
        theirs.close()
        ours.close()
    assert layers["system_calls"]
    assert {name: how for name, how in done.items() if how == "succeeded"} == {}


def test_model_processes_inherit_nothing_from_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPAU_TEST_SECRET", "credentials")
    monkeypatch.setattr(model_process._ProcessLauncher, "launcher", None)
    process = start(bombs.never_ending())
    environment = _read_as_root(f"/proc/{process.pid}/environ")
    assert b"credentials" not in environment
    assert b"DATABASE" not in environment
    place = f"/proc/{process.pid}/fd"
    opened = [os.readlink(f"{place}/{number}") for number in sorted(map(int, os.listdir(place)))]
    # A socket to the slot, shared memory, and the standard streams.
    kinds = [name.split(":")[0] for name in opened]
    assert kinds.count("socket") - kinds[:3].count("socket") == 1, opened
    assert not [name for name in opened[3:] if not name.startswith(("socket:", "/memfd:ipau-arrays"))], opened
    assert len(os.listdir(f"/proc/{process.pid}/task")) == 1
    del process
    launcher = model_process._ProcessLauncher.launcher
    launcher.close()
    launcher._process.wait()


def _read_as_root(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except PermissionError:
        pytest.skip("only root can read files of a process that has changed its user")


# --- Messages for exhausted memory.


@pytest.mark.parametrize(
    "message",
    [
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
        "Status Message: /src/bfc_arena.cc:376 Failed to allocate memory for requested buffer of size "
        "1677721600",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Available memory of 10 is smaller than requested bytes "
        "of 99",
        "[ONNXRuntimeError] : 1 : FAIL : std::bad_array_new_length",
        "[ONNXRuntimeError] : 1 : FAIL : cannot create std::vector larger than max_size()",
        "[ONNXRuntimeError] : 1 : FAIL : OneHot: failed to allocate output tensor. Output shape may be too "
        "large.",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Memory allocation failed. Size=99",
        "[ONNXRuntimeError] : 1 : FAIL : Cannot allocate memory",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : SafeIntOnOverflow() Integer overflow",
        "[ONNXRuntimeError] : 1 : FAIL : Calculation for Tensor storage size overflowed",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Tensor shape.Size() must be >= 0",
    ],
)
def test_each_message_for_exhausted_memory_is_recognized(message: str) -> None:
    from workers.onnx_runtime import is_out_of_memory

    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(
        RuntimeError("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions")
    )


def test_shared_memory_above_the_limit_is_a_memory_error(little_memory: int) -> None:
    """Shared memory counts towards the limit."""
    process = start(bombs.never_ending())
    with pytest.raises(MemoryError):
        process._share("input", 2 * 1024 * MIB)
    assert (process.run(DARK, seconds=10)[0] == 0).all()


@pytest.mark.parametrize("how", ["convolution", "products", "softmax", "resize"])
@pytest.mark.parametrize("keeps_memory", [True, False])
def test_layers_that_need_too_much_say_so(how: str, keeps_memory: bool, little_memory: int) -> None:
    """Kernels allocate memory in different ways."""
    network = IsolatedNetwork(Graph(_growing(how)), 20, keeps_memory=keeps_memory)
    small, large = (
        np.zeros((1, 3, side, side), np.float32) for side in (32, 4096 if how != "products" else 256)
    )
    assert network.run(small, 20)
    with pytest.raises(ModelFault, match="needs more memory") as fault:
        network.run(large, 20)
    assert fault.value.code == "no_memory"
    assert network.run(small, 20)


def _growing(how: str) -> bytes:
    """Return a network of any input size that needs far more memory for a large image."""
    import torch
    from torch import nn

    from tests.workers.families.onnx.test_family import trace

    class Pairs(nn.Module):
        def forward(self, x: object) -> object:
            flat = x.flatten(2)  # type: ignore[attr-defined]
            return (flat.transpose(1, 2) @ flat).mean((1, 2))

    class Larger(nn.Module):
        def forward(self, x: object) -> object:
            return nn.functional.interpolate(x, scale_factor=16.0, mode="bilinear").mean((1, 2, 3))  # type: ignore[arg-type]

    networks = {
        "convolution": nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)
        ),
        "products": Pairs(),
        "softmax": nn.Sequential(nn.Conv2d(3, 64, 1), nn.Softmax(1)),
        "resize": Larger(),
    }
    torch.manual_seed(1)
    return trace(networks[how], 32, 32, dynamic=True, pixels=False)


def test_a_trial_reports_exhausted_memory_too(little_memory: int) -> None:
    """In a trial, the network runs in the sandbox process itself."""
    code = """
import resource, numpy as np
from tests.workers.inference import bombs
from tests.workers.inference.test_model_process import Graph, BRIGHT
from workers.inference.errors import ModelFault
from workers.inference.sessions import get_session
from workers.plugin import Context
session = get_session(Context(model=Graph(bombs.memory_hog(megabytes=2900)), is_shut_in=True))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2)
try:
    session.run(BRIGHT)
except ModelFault as fault:
    print(fault.code, fault.message)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.startswith("no_memory The model needs more memory for this image than the "), ran.stderr
    assert "GiB that a model may use. Use a smaller image, or lower the image size." in ran.stdout
