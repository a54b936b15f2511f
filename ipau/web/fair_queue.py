"""Requests of all clients share the threads of a process, and no client has all of them.

A client that sends many requests at the same time would slow down everybody: Python code of a process runs in
one thread at a time, so each request gets a share of the processor by the number of requests that run. Here a
client has a few at a time. The others wait in its own line, and free threads go to the lines in turn.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable

Start = Callable[[], object]


class FairQueue:
    """Starts requests as threads become free. Used by the main loop alone, so it needs no lock.

    Args:
        threads: requests that run at the same time.
        most_each: of these, requests of one client.
    """

    def __init__(self, threads: int, most_each: int):
        self._free = threads
        self._most_each = most_each
        self._running: Counter[str] = Counter()
        # Whose each request is that runs.
        self._client_of: dict[Hashable, str] = {}
        # In the order of turns: a client that has had one goes to the end.
        self._waiting: dict[str, deque[tuple[Hashable, Start]]] = {}

    def add(self, request: Hashable, client: str, start: Start) -> None:
        """Start a request of a client now, or when it is the client's turn."""
        if client not in self._waiting and self._may_start(client):
            self._start(request, client, start)
        else:
            self._waiting.setdefault(client, deque()).append((request, start))

    def end(self, request: Hashable) -> None:
        """Note that a request has ended, if it was started here, and start what may run now."""
        client = self._client_of.pop(request, None)
        if client is None:
            return
        self._free += 1
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        while (following := self._next_client()) is not None:
            line = self._waiting.pop(following)
            request, start = line.popleft()
            if line:
                self._waiting[following] = line
            self._start(request, following, start)

    def _next_client(self) -> str | None:
        return next((client for client in self._waiting if self._may_start(client)), None)

    def _may_start(self, client: str) -> bool:
        return self._free > 0 and self._running[client] < self._most_each

    def _start(self, request: Hashable, client: str, start: Start) -> None:
        self._free -= 1
        self._running[client] += 1
        self._client_of[request] = client
        start()
