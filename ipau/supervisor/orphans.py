"""Processes whose parent was killed, and which go on serving while another one starts."""

import os
import time

from ipau.embedded.watchdog import Watchdog, kill_group


class Orphans:
    """What is left of programs that were killed: their process groups, and until when each may go on."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._until: dict[int, float] = {}

    def add(self, group: int, seconds: float) -> None:
        """Let a group go on for at most so many seconds. The watchdog goes on knowing it."""
        self._until[group] = time.monotonic() + seconds

    def tend(self) -> None:
        """Forget groups that have ended, and end those whose time is over."""
        now = time.monotonic()
        # As long as one of its processes lives, the system gives the number of a group to nobody else.
        for group in [one for one, until in self._until.items() if now >= until or not _exists(one)]:
            self._end(group)

    def end(self) -> None:
        """End all of them now."""
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
