"""CPU and GPU detection, and memory and thread limits of a worker process. Never initializes CUDA."""

from __future__ import annotations

import ast
import importlib.util
import os
import platform
import re
import resource
from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image
from PIL import __version__ as pillow_version

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True)
class Device:
    """A device: its kind, and its product name for people."""

    kind: Literal["cpu", "gpu"]
    name: str


def detect() -> Device:
    """Return this machine's GPU, or else its CPU, read from files only.

    A CUDA call would break every child that is forked later, so this reads the driver's list in /proc.
    """
    gpu = _read_gpu_name()
    return Device("gpu", gpu) if gpu else processor()


@cache
def processor() -> Device:
    """Return this machine's CPU, even if it has a GPU."""
    return Device("cpu", _read_cpu_name())


def has_gpu() -> bool:
    """Return whether this machine has an NVIDIA GPU, read from driver and device files only."""
    nodes = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return detect().kind == "gpu" or bool(nodes) or Path("/dev/dxg").exists()


def find_cuda_build() -> str | None:
    """Return the CUDA version that torch was built for. None: built without CUDA, or not installed.

    Reads torch's files: the parent process of the slots must not import torch.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    return _read_cuda_build(Path(spec.origin).with_name("version.py"))


def describe() -> dict[str, str | int]:
    """Return name of CPU or GPU, core count, memory in bytes, and versions of Python and Pillow."""
    return {
        "name": detect().name,
        "cores": os.cpu_count() or 1,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "pillow": pillow_version,
    }


def limit_memory(max_bytes: int) -> None:
    """Limit this process's address space. Above it, allocation raises MemoryError.

    Raises ValueError if a lower hard limit is already set.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, hard))


def limit_data(max_bytes: int) -> None:
    """Limit this process's private writable memory. Above it, allocation raises MemoryError. 0: no limit.

    For processes that use CUDA, which reserves far more addresses than the machine has memory.
    Raises ValueError if a lower hard limit is already set.
    """
    if max_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, hard))


def pin_threads(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set numeric libraries to one thread, as each slot is a process. Call before numpy is imported."""
    for name in THREAD_SETTINGS:
        environ[name] = "1"


def reuse_pixel_memory(blocks: int = 4) -> None:
    """Let Pillow reuse up to `blocks` of 16 MiB for the next images, instead of allocating them again."""
    Image.core.set_blocks_max(blocks)  # type: ignore[attr-defined]  # not in the stubs


def _read_cuda_build(path: Path) -> str | None:
    if not path.exists():
        return None
    for node in ast.parse(path.read_text()).body:
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id="cuda"), value=ast.Constant(value=str(version)))
                | ast.Assign(targets=[ast.Name(id="cuda")], value=ast.Constant(value=str(version)))
            ):
                return version
    return None


def _read_gpu_name(root: Path = Path("/proc/driver/nvidia/gpus")) -> str | None:
    for information in sorted(root.glob("*/information")):
        for line in information.read_text(errors="replace").splitlines():
            label, _, value = line.partition(":")
            if label.strip() == "Model":
                return value.strip()
    return None


def _read_cpu_name(path: Path = Path("/proc/cpuinfo")) -> str:
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
