"""Fair queue: clients share the threads of a process, and each runs only a few requests at a time.

Without it, a client with many concurrent requests would slow down all others: Python code of a process runs
in one thread at a time, so running requests share the CPU equally. Here, the other requests of a client wait
in its own queue, and free threads serve these queues in turn (round robin).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable

Start = Callable[[], object]
# A client whose waiting requests have not moved for this long gets an error instead of a longer wait.
MAX_STUCK_SECONDS = 1.5


class FairQueue:
    """Starts requests as threads become free. Only the main loop uses it, so it needs no lock.

    Args:
        threads: maximum number of running requests.
        most_each: maximum number of running requests per client.
    """

    def __init__(self, threads: int, most_each: int):
        self._free = threads
        self._most_each = most_each
        self._running: Counter[str] = Counter()
        # Client of each running request.
        self._client_of: dict[Hashable, str] = {}
        # In order of turns: a client moves to the end after its turn.
        self._waiting: dict[str, deque[tuple[Hashable, Start]]] = {}
        # When a request of each waiting client has last been started.
        self._moved_at: dict[str, float] = {}

    def add(self, request: Hashable, client: str, start: Start) -> None:
        """Start a request now, or queue it until the client's turn."""
        if client not in self._waiting and self._may_start(client):
            self._start(request, client, start)
        else:
            self._moved_at.setdefault(client, time.monotonic())
            self._waiting.setdefault(client, deque()).append((request, start))

    def remove(self, request: Hashable) -> None:
        """Forget a request that waits. Other requests stay as they are."""
        for client, queue in list(self._waiting.items()):
            kept = deque(entry for entry in queue if entry[0] != request)
            if len(kept) == len(queue):
                continue
            if kept:
                self._waiting[client] = kept
            else:
                del self._waiting[client], self._moved_at[client]

    def is_stuck(self, request: Hashable, seconds: float) -> bool:
        """Return whether a request waits whose client has had no turn for so long."""
        queues = self._waiting.items()
        client = next((name for name, queue in queues if any(entry[0] == request for entry in queue)), None)
        return client is not None and time.monotonic() - self._moved_at[client] >= seconds

    def end(self, request: Hashable) -> None:
        """Free the thread of a request that was started here, and start waiting requests."""
        client = self._client_of.pop(request, None)
        if client is None:
            return
        self._free += 1
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        while (following := self._next_client()) is not None:
            queue = self._waiting.pop(following)
            request, start = queue.popleft()
            if queue:
                self._waiting[following] = queue
                self._moved_at[following] = time.monotonic()
            else:
                del self._moved_at[following]
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
