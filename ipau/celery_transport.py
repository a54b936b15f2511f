"""The way to the broker, with one client a channel.

Kombu makes a client for each message sent, taken and acknowledged. To make one takes longer than to use it.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class Channel(redis.Channel):
    """As Kombu's, but a client is made once for a pool of connections, not for each use of it."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return the client of the pool; to wait for messages, a new one, which holds a connection."""
        if not asynchronous and self._kept is not None and self._kept.connection_pool is self.pool:
            return self._kept
        made = super()._create_client(asynchronous)  # type: ignore[misc]  # the stubs have only what is public
        if not asynchronous:
            self._kept = made
        return made


class Transport(redis.Transport):
    """Kombu's for Redis and Valkey."""

    Channel = Channel


def install() -> None:
    """Let this be what `redis://` and `rediss://` stand for."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
