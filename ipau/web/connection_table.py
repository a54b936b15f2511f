"""Table of the open connections of a web process: counts per peer, and which one to close first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ipau.web.connection import Connection, ConnectionState
from ipau.web.limits import HELD_BYTES, ClientLimits

# States in which a connection may be closed to make room. Groups that lose least come first.
_CLOSED_FIRST = (
    (ConnectionState.CLOSING, ConnectionState.IDLE),
    (ConnectionState.RECEIVING, ConnectionState.QUEUED, ConnectionState.WAITING),
    (ConnectionState.SENDING,),
)


class ConnectionTable:
    """Connections in order of arrival. Only the main loop uses it."""

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
        # Remove peers without connections.
        if not self._peers[connection.peer]:
            del self._peers[connection.peer]

    def is_full(self) -> bool:
        """Return whether the process has its maximum number of connections."""
        return len(self._connections) >= self._limits.connections

    def is_full_for(self, peer: str) -> bool:
        """Return whether a peer has its maximum of connections. Behind trusted proxies there is none."""
        most = self._limits.connections_per_address
        return bool(most) and self._peers[peer] >= most

    def first_to_close(self, peer: str | None = None) -> Connection | None:
        """Return the connection to close first; None if all are running. In a group, it waits longest.

        Args:
            peer: consider only connections of this peer.
        """
        for states in _CLOSED_FIRST:
            candidates = [c for c in self._connections if c.state in states and peer in (None, c.peer)]
            if candidates:
                return min(candidates, key=lambda connection: connection.since)
        return None

    def one_too_large(self) -> Connection | None:
        """Return the connection with the largest buffers if all together exceed the limit, else None."""
        waiting = [c for c in self._connections if c.state is not ConnectionState.RUNNING]
        if not waiting or sum(c.held_bytes() for c in self._connections) <= HELD_BYTES:
            return None
        return max(waiting, key=Connection.held_bytes)
