"""Drop privileges, network and priority of this process before it handles untrusted files."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
# User and group ID of `nobody`, by convention.
NOBODY = 65534
# Another process on the same core gets three quarters of it. At a higher niceness, a conversion would take
# ten times as long on a busy machine.
NICENESS = 5


def end_with_parent() -> None:
    """Make the kernel kill this process when the thread that started it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def refuse_privileges() -> None:
    """Set PR_SET_NO_NEW_PRIVS: programs started from here get no more rights than this process."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def leave_network() -> bool:
    """Move into an empty network namespace. Return whether the kernel allowed it."""
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def leave_root() -> bool:
    """Switch from root to `nobody`. Return whether the process now runs as an ordinary user."""
    if os.geteuid() == 0:
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    return os.geteuid() != 0


def lower_priority() -> None:
    """Lower the CPU and disk priority, so that pages and small jobs come first.

    With autogroup scheduling, niceness counts only within a session, so the session's niceness is set too.
    The I/O priority follows from niceness: ioprio_set(2).
    """
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS))


def end_first_without_memory() -> None:
    """Make the kernel kill this process before any worker if memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
