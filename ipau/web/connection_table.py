"""The open connections of a web process: how many each peer has, and which one goes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ipau.web.connection import Connection, ConnectionState
from ipau.web.limits import HELD_BYTES, ClientLimits

# Those that can be closed without losing a response, the first ones first.
_CLOSED_FIRST = (
    (ConnectionState.CLOSING, ConnectionState.IDLE),
    (ConnectionState.RECEIVING, ConnectionState.QUEUED),
    (ConnectionState.SENDING,),
)


class ConnectionTable:
    """Connections in the order in which they came. Only the main loop uses it."""

    def __init__(self, limits: ClientLimits):
        self._limits = limits
        self._connections: dict[Connection, None] = {}
        self._peers: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections)

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        self._connections[connection] = None
        self._peers[connection.peer] += 1

    def remove(self, connection: Connection) -> None:
        del self._connections[connection]
        self._peers[connection.peer] -= 1
        # Keeps no address of those who have gone.
        if not self._peers[connection.peer]:
            del self._peers[connection.peer]

    def is_full(self) -> bool:
        """Tell whether there are as many as there may be."""
        return len(self._connections) >= self._limits.connections

    def is_full_for(self, peer: str) -> bool:
        """Tell whether a peer has as many as it may have. Behind trusted proxies there is no such limit."""
        most = self._limits.connections_per_address
        return bool(most) and self._peers[peer] >= most

    def first_to_close(self, peer: str | None = None) -> Connection | None:
        """Return the longest-waiting connection of those that lose least; None where all are running.

        Args:
            peer: look at the connections of this one only.
        """
        for states in _CLOSED_FIRST:
            found = [c for c in self._connections if c.state in states and peer in (None, c.peer)]
            if found:
                return min(found, key=lambda connection: connection.since)
        return None

    def one_too_large(self) -> Connection | None:
        """Return the connection that holds most memory, where all of them together hold too much."""
        waiting = [c for c in self._connections if c.state is not ConnectionState.RUNNING]
        if not waiting or sum(c.held_bytes() for c in self._connections) <= HELD_BYTES:
            return None
        return max(waiting, key=Connection.held_bytes)
