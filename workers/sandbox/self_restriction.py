"""Taking away from this process what a conversion does not need, one layer after another.

Limits on memory, time and files; no network; no new privileges; nothing to read but what it needs, where the
kernel has Landlock; and a hook that ends the process when Python is about to start a program, open a
connection, unpickle, or write outside of its folders. Behind bubblewrap all this is a second wall.
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

# Where it says which walls stand, in its folder for temporary files.
ISOLATION = "isolation.json"
# What the process ends with when the hook stops it.
STOPPED = 97
# Where programs and libraries are.
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/alternatives")
# What the kernel tells of the machine and of this process.
_OWN_SYSTEM = (
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system",
    "/dev/urandom",
    "/dev/zero",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Whatever begins so.
_FORBIDDEN = ("socket.", "subprocess.", "os.exec", "os.spawn", "os.posix_spawn", "pty.", "urllib.", "http.")
_FORBIDDEN_NAMES = frozenset({
    "os.system", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.link", "os.symlink", "os.chown",
    "os.chroot", "os.mknod", "os.setuid", "pickle.find_class", "webbrowser.open",
})  # fmt: skip
# Those that change files, whose first arguments are paths.
_CHANGING = frozenset({
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.utime", "os.setxattr",
    "shutil.rmtree", "shutil.move",
})  # fmt: skip


def begin(order: Mapping[str, Any]) -> None:
    """Shut this process in as `workers.sandbox.process` ordered, and say what was achieved."""
    process.lower_priority()
    out, scratch = Path(order["out"]), Path(order["scratch"])
    _prepare_environment(scratch)
    process.end_first_without_memory()
    needed = [*(Path(order[name]) for name in order["readable"]), *map(Path, order["interpreter"])]
    achieved = shut_in((out, scratch), order["limits"], readable=needed, is_wrapped=order["wrapped"])
    (scratch / ISOLATION).write_text(json.dumps(achieved))


def shut_in(
    folders: Sequence[Path], limits: Mapping[str, int], *, readable: Sequence[Path], is_wrapped: bool
) -> dict[str, bool]:
    """Give everything away but reading what it needs, and writing in these folders. Return what was achieved.

    Args:
        readable: what may be read beside the system's programs and libraries.
        is_wrapped: bubblewrap has taken the network away before.
    """
    process.end_with_parent()
    has_left = is_wrapped or process.leave_network()
    process.refuse_privileges()
    _limit(limits)
    is_locked = landlock.restrict(
        [*SYSTEM, *_OWN_SYSTEM, *map(str, readable)], [*map(str, folders), "/dev/null"]
    )
    _watch(tuple(os.path.realpath(folder) for folder in folders))
    return {"network": has_left, "landlock": is_locked, "limits": True, "hook": True}


def _prepare_environment(scratch: Path) -> None:
    """One thread, a home for libraries that insist on one, and no programs started to find others."""
    for name in ("HOME", "TMPDIR", "YOLO_CONFIG_DIR", "MPLCONFIGDIR", "TORCH_HOME", "XDG_CACHE_HOME"):
        os.environ[name] = str(scratch)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ.update(NO_TELEMETRY)
    ctypes.util.find_library = _find_no_library


def _find_no_library(name: str) -> None:
    """torch asks for CUDA's libraries when it is imported; the answer would come from `ldconfig`."""


def _limit(limits: Mapping[str, int]) -> None:
    """The number of processes is not limited: it counts all of a user's, and threads too."""
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
        # At the end of its time a process is told first, by a signal that says why.
        spare = 2 if kind == resource.RLIMIT_CPU else 0
        resource.setrlimit(kind, (max(0, most - spare), most))


def _watch(folders: tuple[str, ...]) -> None:
    """From here on, end the process before Python does what no conversion does."""

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
    return bool(isinstance(flags, int) and flags & _WRITING)


def _is_inside(path: Any, folders: tuple[str, ...]) -> bool:
    if isinstance(path, int):
        # Already open: that was looked at then.
        return True
    found = os.path.realpath(os.fsdecode(path))
    return found == "/dev/null" or any(
        found == folder or found.startswith(f"{folder}/") for folder in folders
    )
