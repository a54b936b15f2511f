"""What a process gives away of itself before it handles what strangers made."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
# The user and group of nobody, by convention.
NOBODY = 65534
# Who wants the same core gets three quarters of it, so takes a third longer at most. With more, a conversion
# would take ten times as long on a busy machine.
NICENESS = 5


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def refuse_privileges() -> None:
    """Make sure that no program started from here gets more rights than this process has."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def leave_network() -> bool:
    """Move into a network of its own, in which there is nothing. Return whether that was allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def leave_root() -> bool:
    """Become nobody where this process is root's. Return whether it belongs to an ordinary user now."""
    if os.geteuid() == 0:
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    return os.geteuid() != 0


def lower_priority() -> None:
    """Leave the processor, and with it the disk, to pages and small jobs wherever they want it.

    Where the kernel groups processes by session, niceness counts within the group alone, so that of the group
    is set too. The priority of reads and writes follows from niceness: ioprio_set(2).
    """
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(NICENESS))


def end_first_without_memory() -> None:
    """Where the machine's memory runs out, let the kernel kill this process and no worker."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
