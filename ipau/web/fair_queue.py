"""Fair queue: clients share the threads of a process, and each runs only a few requests at a time.

Without it, a client with many concurrent requests would slow down all others: Python code of a process runs
in one thread at a time, so running requests share the CPU equally. Here, the other requests of a client wait
in its own queue, and free threads serve these queues in turn (round robin).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

Start = Callable[[], object]
# If no waiting request of a client starts for this long, it gets an error instead of a longer wait.
MAX_STUCK_SECONDS = 1.5


@dataclass(eq=False)
class _Client:
    """A client with running or waiting requests."""

    name: str
    running: int = 0
    waiting: dict[Hashable, Start] = field(default_factory=dict)
    # When its last request started.
    moved_at: float = 0.0


class FairQueue:
    """Starts requests as threads become free. Only the main loop uses it, so it needs no lock.

    Args:
        threads: maximum number of running requests.
        most_each: maximum number of running requests per client.
    """

    def __init__(self, threads: int, most_each: int):
        self._free = threads
        self._most_each = most_each
        # In order of turns: a client moves to the end after its turn, and when it begins to wait.
        self._clients: dict[str, _Client] = {}
        self._client_of: dict[Hashable, _Client] = {}

    def add(self, request: Hashable, name: str, start: Start) -> None:
        """Start a request of a client now, or queue it until the client's turn."""
        client = self._clients.setdefault(name, _Client(name))
        if not client.waiting:
            self._move_to_end(client)
            client.moved_at = time.monotonic()
        client.waiting[request] = start
        self._client_of[request] = client
        self._start_next()

    def end(self, request: Hashable) -> None:
        """Free the thread of a request that was started here, and start waiting requests."""
        client = self._client_of.get(request)
        if client is None or request in client.waiting:
            return
        self._free += 1
        client.running -= 1
        self._forget(request, client)
        self._start_next()

    def remove(self, request: Hashable) -> None:
        """Remove a request that waits."""
        client = self._client_of.get(request)
        if client is not None and client.waiting.pop(request, None) is not None:
            self._forget(request, client)

    def is_stuck(self, request: Hashable, seconds: float) -> bool:
        """Return whether a request waits and its client has had no turn for `seconds`."""
        client = self._client_of.get(request)
        is_waiting = client is not None and request in client.waiting
        return client is not None and is_waiting and time.monotonic() - client.moved_at >= seconds

    def _move_to_end(self, client: _Client) -> None:
        self._clients[client.name] = self._clients.pop(client.name)

    def _forget(self, request: Hashable, client: _Client) -> None:
        del self._client_of[request]
        if not client.running and not client.waiting:
            del self._clients[client.name]

    def _start_next(self) -> None:
        while self._free and (client := self._next_client()):
            self._move_to_end(client)
            request = next(iter(client.waiting))
            start = client.waiting.pop(request)
            client.running += 1
            client.moved_at = time.monotonic()
            self._free -= 1
            start()

    def _next_client(self) -> _Client | None:
        clients = self._clients.values()
        return next((one for one in clients if one.waiting and one.running < self._most_each), None)
