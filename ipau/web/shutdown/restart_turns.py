"""Which web process may restart: one at a time. Slow clients delay that, and others have to serve then."""

from __future__ import annotations

import fcntl
import tempfile
from typing import IO


class _Shared:
    file: IO[bytes] | None = None


def prepare() -> None:
    """Make the lock that all processes share. Call it before they are forked."""
    _Shared.file = _Shared.file or tempfile.TemporaryFile()  # noqa: SIM115  # open for good


def take() -> bool:
    """Tell whether this process may end. Its turn ends with it."""
    if _Shared.file is None:
        return True
    try:
        fcntl.lockf(_Shared.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
