"""Kombu transport for Redis and Valkey that reuses one client per channel.

Kombu creates a client for each message that it sends, receives or acknowledges. Creating one takes longer
than using it.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class Channel(redis.Channel):
    """Kombu's channel, with one client per connection pool instead of one per use."""

    _client_cache: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return the cached client of the pool. `asynchronous`: a new client, which holds a connection."""
        cached = self._client_cache
        if not asynchronous and cached is not None and cached.connection_pool is self.pool:
            return cached
        client = super()._create_client(asynchronous)  # type: ignore[misc]  # the stubs have only what is public
        if not asynchronous:
            self._client_cache = client
        return client


class Transport(redis.Transport):
    """Kombu's transport for Redis and Valkey, with the channel above."""

    Channel = Channel


def install() -> None:
    """Use this transport for `redis://` and `rediss://` URLs."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
