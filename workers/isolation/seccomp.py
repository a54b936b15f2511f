"""Seccomp: limit the system calls that this process may make. Needs Linux 3.17 or later.

The filter cannot be removed, and child processes inherit it. Needs PR_SET_NO_NEW_PRIVS.
Source: docs.kernel.org, «Seccomp BPF (SECure COMPuting with filters)».
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# Classic BPF: load a word of `struct seccomp_data`, compare, mask, return.
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _THIRD_ARGUMENT_AT = 0, 4, 32
_PROT_EXEC = 4
_X86_64 = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10,
    "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getitimer": 36, "setitimer": 38,
    "getpid": 39, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "exit": 60, "wait4": 61,
    "gettimeofday": 96, "getrusage": 98, "times": 100, "sigaltstack": 131, "gettid": 186, "futex": 202,
    "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "exit_group": 231, "tgkill": 234, "ppoll": 271, "set_robust_list": 273,
    "getcpu": 309, "getrandom": 318, "membarrier": 324, "rseq": 334, "fork": 57, "clone": 56,
    "clone3": 435, "prlimit64": 302, "prctl": 157, "seccomp": 317, "fcntl": 72,
}  # fmt: skip
_AARCH64 = {
    "fcntl": 25, "close": 57, "lseek": 62, "read": 63, "write": 64, "ppoll": 73, "fstat": 80, "exit": 93,
    "exit_group": 94, "futex": 98, "set_robust_list": 99, "nanosleep": 101, "getitimer": 102,
    "setitimer": 103, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
    "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "tgkill": 131,
    "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153,
    "getrusage": 165, "prctl": 167, "getcpu": 168, "gettimeofday": 169, "getpid": 172, "gettid": 178,
    "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "brk": 214, "munmap": 215,
    "mremap": 216, "clone": 220, "mmap": 222, "mprotect": 226, "madvise": 233, "wait4": 260,
    "prlimit64": 261, "seccomp": 277, "getrandom": 278, "membarrier": 283, "rseq": 293, "clone3": 435,
}  # fmt: skip
# Memory, threads, clocks and already open descriptors. No new files, sockets or programs.
COMPUTING = (
    "read", "write", "close", "fstat", "poll", "ppoll", "lseek", "mmap", "mprotect", "munmap", "brk",
    "mremap", "madvise", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
    "restart_syscall", "sched_yield", "sched_getaffinity", "getcpu", "nanosleep", "clock_nanosleep",
    "clock_gettime", "clock_getres", "gettimeofday", "times", "getrusage", "getitimer", "setitimer",
    "getpid", "gettid", "sendto", "recvfrom", "sendmsg", "recvmsg", "futex", "set_robust_list", "rseq",
    "membarrier", "getrandom", "exit", "exit_group", "fcntl",
)  # fmt: skip
# Additional calls of a process that forks children, limits them and isolates them.
FORKING = ("fork", "clone", "clone3", "wait4", "prlimit64", "prctl", "seccomp", "tgkill")
_MAPPING = ("mmap", "mprotect")


@dataclass(frozen=True)
class _Architecture:
    """System call numbers of one CPU architecture."""

    audit: int
    numbers: dict[str, int]


_ARCHITECTURES = {
    "x86_64": _Architecture(0xC000003E, _X86_64),
    "aarch64": _Architecture(0xC00000B7, _AARCH64),
}


def restrict(allowed: Iterable[str]) -> bool:
    """Allow only these system calls; others fail with EPERM. Memory cannot become executable.

    Needs PR_SET_NO_NEW_PRIVS.

    Args:
        allowed: names as in `COMPUTING`. Names that the architecture lacks are skipped.

    Returns:
        Whether the kernel enforces the filter. False on architectures that this module does not know.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return False
    program = b"".join(_compile(architecture, frozenset(allowed)))
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(header), 0, 0) == 0)


def _compile(architecture: _Architecture, allowed: frozenset[str]) -> Sequence[bytes]:
    """Return the filter's instructions: one block for each system call, so all jumps are short."""
    refuse = _instruction(_RETURN, _ERRNO | errno.EPERM)
    program = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_EQUAL, architecture.audit, if_true=1),
        refuse,
        _instruction(_LOAD, _NUMBER_AT),
    ]
    for name in sorted(allowed & architecture.numbers.keys()):
        number = architecture.numbers[name]
        if name in _MAPPING:
            program += [
                _instruction(_EQUAL, number, if_false=5),
                _instruction(_LOAD, _THIRD_ARGUMENT_AT),
                _instruction(_AND, _PROT_EXEC),
                _instruction(_EQUAL, 0, if_false=1),
                _instruction(_RETURN, _ALLOW),
                refuse,
            ]
        else:
            program += [_instruction(_EQUAL, number, if_false=1), _instruction(_RETURN, _ALLOW)]
    return [*program, refuse]


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
