"""Restrict the sandbox process itself, in layers. Below bubblewrap this is the second line of defense.

Layers: limits on memory, time and files; no network; no new privileges; access to needed files only, if the
kernel has Landlock. An audit hook ends the process before Python starts a program, opens a connection,
unpickles, or writes outside of its folders.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import resource
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.isolation import landlock, process
from workers.onnx_runtime import NO_TELEMETRY

# Report of the active layers, in the temporary folder.
ISOLATION = "isolation.json"
# Exit status after the audit hook stopped the process.
STOPPED = 97
# Folders of programs and libraries.
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/alternatives")
# Kernel files about the machine and this process.
_KERNEL_FILES = (
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system",
    "/dev/urandom",
    "/dev/zero",
)
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Prefixes of forbidden audit events.
_FORBIDDEN = ("socket.", "subprocess.", "os.exec", "os.spawn", "os.posix_spawn", "pty.", "urllib.", "http.")
_FORBIDDEN_NAMES = frozenset({
    "os.system", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.link", "os.symlink", "os.chown",
    "os.chroot", "os.mknod", "os.setuid", "pickle.find_class", "webbrowser.open",
})  # fmt: skip
# Audit events of file changes. Their first arguments are paths.
_CHANGING = frozenset({
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.utime", "os.setxattr",
    "shutil.rmtree", "shutil.move",
})  # fmt: skip


def begin(order: Mapping[str, Any]) -> None:
    """Restrict this process as `workers.sandbox.process` ordered, and write the active layers to a file."""
    process.lower_priority()
    out, scratch = Path(order["out"]), Path(order["scratch"])
    _prepare_environment(scratch)
    process.end_first_without_memory()
    needed = [*(Path(order[name]) for name in order["readable"]), *map(Path, order["interpreter"])]
    layers = restrict((out, scratch), order["limits"], readable=needed, is_wrapped=order["wrapped"])
    (scratch / ISOLATION).write_text(json.dumps(layers))


def restrict(
    folders: Sequence[Path], limits: Mapping[str, int], *, readable: Sequence[Path], is_wrapped: bool
) -> dict[str, bool]:
    """Drop all rights except reading needed files and writing to `folders`. Return the active layers.

    Args:
        readable: readable paths in addition to the system's programs and libraries.
        is_wrapped: whether bubblewrap has already removed the network.
    """
    process.end_with_parent()
    has_no_network = is_wrapped or process.leave_network()
    process.refuse_privileges()
    _limit(limits)
    is_locked = landlock.restrict(
        [*SYSTEM, *_KERNEL_FILES, *map(str, readable)], [*map(str, folders), "/dev/null"]
    )
    _add_audit_hook(tuple(os.path.realpath(folder) for folder in folders))
    return {"network": has_no_network, "landlock": is_locked, "limits": True, "hook": True}


def _prepare_environment(scratch: Path) -> None:
    """Set one thread, a writable home folder, and no search for libraries by external programs."""
    for name in ("HOME", "TMPDIR", "YOLO_CONFIG_DIR", "MPLCONFIGDIR", "TORCH_HOME", "XDG_CACHE_HOME"):
        os.environ[name] = str(scratch)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ.update(NO_TELEMETRY)
    ctypes.util.find_library = _find_no_library


def _find_no_library(name: str) -> None:
    """Find nothing: torch looks for CUDA's libraries at import, which would start `ldconfig`."""


def _limit(limits: Mapping[str, int]) -> None:
    """Set resource limits. The process count has none, as it includes all threads of the same user."""
    wanted = {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_CPU: limits["cpu"],
        resource.RLIMIT_FSIZE: limits["file"],
        resource.RLIMIT_NOFILE: limits["open"],
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in wanted.items():
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # The soft limit comes first: its signal, SIGXCPU, shows the reason in the exit status.
        spare = 2 if kind == resource.RLIMIT_CPU else 0
        resource.setrlimit(kind, (max(0, most - spare), most))


def _add_audit_hook(folders: tuple[str, ...]) -> None:
    """End the process from now on before Python does a forbidden operation."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            allowed = not _is_writing(arguments) or _is_inside(arguments[0], folders)
        elif event in _CHANGING:
            allowed = all(_is_inside(path, folders) for path in arguments if isinstance(path, (str, bytes)))
        else:
            allowed = not event.startswith(_FORBIDDEN) and event not in _FORBIDDEN_NAMES
        if not allowed:
            os.write(2, f"stopped at {event} {arguments!r:.300}\n".encode(errors="replace"))
            traceback.print_stack()
            sys.stderr.flush()
            os._exit(STOPPED)

    sys.addaudithook(hook)


def _is_writing(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return bool(isinstance(flags, int) and flags & _WRITE_FLAGS)


def _is_inside(path: Any, folders: tuple[str, ...]) -> bool:
    if isinstance(path, int):
        # A descriptor that is already open passed the check when it was opened.
        return True
    real = os.path.realpath(os.fsdecode(path))
    return real == "/dev/null" or any(real == folder or real.startswith(f"{folder}/") for folder in folders)
