"""What a worker process runs on, and the limits it sets itself. Never touches CUDA."""

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
    """A kind of device and the name a person knows it by."""

    kind: Literal["cpu", "gpu"]
    name: str


def detect() -> Device:
    """Say what this machine offers, from files alone.

    A CUDA call here would break every child forked later, so the driver's own listing is read instead.
    """
    gpu = _read_gpu_name()
    return Device("gpu", gpu) if gpu else processor()


@cache
def processor() -> Device:
    """Say which processor this machine has, whatever else it has."""
    return Device("cpu", _read_cpu_name())


def has_gpu() -> bool:
    """Tell whether this machine has an NVIDIA GPU, from the files of drivers and containers alone."""
    nodes = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return detect().kind == "gpu" or bool(nodes) or Path("/dev/dxg").exists()


def find_cuda_build() -> str | None:
    """Return the version of CUDA that torch was built for: None where it was built without, or is not there.

    Read from its files: a process that slots are forked from must not load it.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    return _read_cuda_build(Path(spec.origin).with_name("version.py"))


def describe() -> dict[str, str | int]:
    """Say what a person wants to know of this machine: its processor or GPU, cores, memory, and versions."""
    return {
        "name": detect().name,
        "cores": os.cpu_count() or 1,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "pillow": pillow_version,
    }


def limit_memory(max_bytes: int) -> None:
    """Bound this process's address space: past it, allocation raises MemoryError.

    Raises ValueError where a lower hard limit is already set.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, hard))


def limit_data(max_bytes: int) -> None:
    """Bound what memory of its own this process may write to: past it, allocation raises MemoryError.

    For processes that use CUDA, which reserves addresses far beyond what a machine has. 0: no bound. Raises
    ValueError where a lower hard limit is already set.
    """
    if max_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, hard))


def pin_threads(environ: MutableMapping[str, str] = os.environ) -> None:
    """One thread a process: slots are processes already. Call before numpy is imported."""
    for name in THREAD_SETTINGS:
        environ[name] = "1"


def reuse_pixel_memory(blocks: int = 4) -> None:
    """Let Pillow keep up to `blocks` of 16 MiB between pictures, instead of asking the system anew."""
    Image.core.set_blocks_max(blocks)  # type: ignore[attr-defined]  # not in the stubs


def _read_cuda_build(path: Path) -> str | None:
    if not path.exists():
        return None
    for node in ast.parse(path.read_text()).body:
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id="cuda"), value=ast.Constant(value=str(found)))
                | ast.Assign(targets=[ast.Name(id="cuda")], value=ast.Constant(value=str(found)))
            ):
                return found
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
