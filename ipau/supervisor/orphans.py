"""Orphaned processes: children of a killed program that keep serving while a new one starts."""

import os
import time

from ipau.embedded.watchdog import Watchdog, kill_group


class Orphans:
    """Process groups of killed programs, each with a deadline."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._until: dict[int, float] = {}

    def add(self, group: int, seconds: float) -> None:
        """Let a group continue for at most `seconds`. The watchdog keeps tracking it."""
        self._until[group] = time.monotonic() + seconds

    def tend(self) -> None:
        """Forget groups that have ended, and kill groups past their deadline."""
        now = time.monotonic()
        # The kernel does not reuse the id of a group while one of its processes lives.
        for group in [one for one, until in self._until.items() if now >= until or not _exists(one)]:
            self._end(group)

    def end(self) -> None:
        """Kill all groups now."""
        for group in list(self._until):
            self._end(group)

    def _end(self, group: int) -> None:
        if _exists(group):
            kill_group(group)
        self._watchdog.drop(group)
        del self._until[group]


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
