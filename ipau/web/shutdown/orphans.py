"""A worker whose master was killed: it serves on until another master's workers have taken over."""

from __future__ import annotations

import os
import time
from typing import Any

# Longer than a start takes on a busy machine. `ipau.supervisor` ends what is left somewhat later.
ORPHAN_SECONDS = 20.0


class Orphanhood:
    """Tells a worker when to end after its master has gone.

    Where the listening socket was handed down, whoever holds it starts another master on it. Any other master
    would find its address in use, so its workers end at once.
    """

    def __init__(self, cfg: Any, parent: int):
        self._parent = parent
        self._seconds = ORPHAN_SECONDS if any(isinstance(one, int) for one in cfg.address) else 0.0
        self._since: float | None = None

    def is_over(self) -> bool:
        """Tell whether the worker shall end. False while its master lives."""
        if os.getppid() == self._parent:
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since >= self._seconds
