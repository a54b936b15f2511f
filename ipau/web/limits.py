"""Limits of the web server: sizes, times, and connections per client, read from the settings."""

import resource
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest

# Maximum size of a request line with its headers. nginx accepts 32 KiB.
HEAD_BYTES = 64 * 1024
# A body up to this size is received completely before a thread runs the request.
BODY_BYTES = 256 * 1024
# Maximum memory for the buffers of all waiting connections of a process.
HELD_BYTES = 128 * 1024 * 1024
# A response holds no thread while its client reads, so readers may be much slower than senders.
READER_TIME_FACTOR = 3
READER_RATE_SHARE = 8
# Reserved file descriptors: files being sent, connections to the database and to Valkey.
OTHER_FILES = 256
# A closing connection is read for this time and number of bytes, so that its client sees the response.
LINGER_SECONDS = 5.0
STOP_LINGER_SECONDS = 1.0
LINGER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class ClientLimits:
    """Limits of clients in one process."""

    slow_seconds: float
    """Time limit for a complete request head, and for a pause in a body."""
    min_rate: float
    """Minimum rate of a streamed body, in bytes per second."""
    connections: int
    """Open connections of one process."""
    connections_per_address: int
    """Open connections of one client in one process; 0: no limit, because the peer is a proxy."""
    streams: int
    """Threads of one process that may read large bodies at the same time."""
    streams_per_address: int
    requests_per_client: int
    """Requests of one client that run in the general threads of a process at the same time."""

    @property
    def stream_wait_seconds(self) -> float:
        """Maximum time that a request waits for a stream, without a thread, before it is refused."""
        return self.slow_seconds / 2


def limits() -> ClientLimits:
    """Return the limits from the settings. The limit of open files also limits the connections."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    per_address = 0 if settings.ALLAUTH_TRUSTED_PROXY_COUNT else settings.WEB_CONNECTIONS_PER_ADDRESS
    return ClientLimits(
        slow_seconds=settings.WEB_SLOW_SECONDS,
        min_rate=settings.WEB_MIN_RATE,
        connections=max(1, min(settings.WEB_CONNECTIONS, files - OTHER_FILES)),
        connections_per_address=per_address,
        streams=settings.WEB_STREAMS,
        streams_per_address=settings.WEB_STREAMS_PER_ADDRESS,
        requests_per_client=settings.WEB_REQUESTS_PER_CLIENT,
    )


def client_key(address: str) -> str:
    """Return the key of a client: its IPv4 address, or the /64 network of its IPv6 address."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped) if ip.ipv4_mapped else f"{int(ip) >> 64:x}::/64"
    return str(ip)


def client_address(peer: str, forwarded_for: str) -> str:
    """Return the client's address as Django sees it. Trusted proxies report it."""
    request = HttpRequest()
    request.META = {"REMOTE_ADDR": peer}
    if forwarded_for:
        request.META["HTTP_X_FORWARDED_FOR"] = forwarded_for
    try:
        return str(get_adapter(request).get_client_ip(request))
    except (ImproperlyConfigured, PermissionDenied, ValueError):
        return peer
