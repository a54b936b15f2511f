"""Orphaned web worker: after its master was killed, it serves until a new master has taken over."""

from __future__ import annotations

import os
import time
from typing import Any

# Longer than a start on a busy machine. `ipau.supervisor` kills remaining processes a little later.
ORPHAN_SECONDS = 20.0


class Orphanhood:
    """Decides when a worker ends after its master has died.

    If the listening socket is inherited, the supervisor starts a new master on it, and the worker serves
    until then. Otherwise the worker ends at once, since a new master could not bind the address.
    """

    def __init__(self, cfg: Any, parent: int):
        self._parent = parent
        self._seconds = ORPHAN_SECONDS if any(isinstance(one, int) for one in cfg.address) else 0.0
        self._since: float | None = None

    def is_over(self) -> bool:
        """Return whether the worker must end. False while its master lives."""
        if os.getppid() == self._parent:
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since >= self._seconds
