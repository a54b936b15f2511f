"""Streams: limits on threads that read large request bodies, in total and per client."""

from collections import Counter


class Streams:
    """The streams of one process. Only the main loop uses it, so it needs no lock."""

    def __init__(self, most: int, most_per_client: int):
        self._most, self._most_per_client = most, most_per_client
        self._held: Counter[str] = Counter()

    def take(self, client: str) -> bool:
        """Take a stream for a client; return False if none is free for it."""
        if self.is_full_for(client) or self._held.total() >= self._most:
            return False
        self._held[client] += 1
        return True

    def is_full_for(self, client: str) -> bool:
        """Return whether this client has its maximum number of streams."""
        return self._held[client] >= self._most_per_client

    def give_back(self, client: str) -> None:
        """Release a stream."""
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
