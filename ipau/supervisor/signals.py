"""Stop signals (SIGTERM, Ctrl-C): the first stops a site gracefully, the second at once."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class StopSignals:
    """Counts INT, TERM and HUP while the block runs. Calls `on_second` at each signal after the first."""

    def __init__(self) -> None:
        self.count = 0
        self.on_second: Callable[[], None] | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # `nohup` ignores HUP on purpose. A shell ignores INT for background jobs, so handle it anyway.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def asked(self) -> bool:
        """Return whether a stop was requested."""
        return self.count > 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1 and self.on_second:
            self.on_second()
