"""Restart lock of web processes: one restarts at a time, so that the others serve while it drains."""

from __future__ import annotations

import fcntl
import tempfile
from typing import IO


class _Shared:
    file: IO[bytes] | None = None


def prepare() -> None:
    """Create the lock that all processes share. Call it before the fork."""
    _Shared.file = _Shared.file or tempfile.TemporaryFile()  # noqa: SIM115  # open for good


def take() -> bool:
    """Take the lock; return whether this process may end. The lock is released when it ends."""
    if _Shared.file is None:
        return True
    try:
        fcntl.lockf(_Shared.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
