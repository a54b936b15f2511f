"""Limits on what a client of the web server may hold, read from the settings."""

import resource
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest

# A request line and its headers. nginx takes 32 KiB.
HEAD_BYTES = 64 * 1024
# A body up to this size is collected before a thread runs the request.
BODY_BYTES = 256 * 1024
# What all waiting connections of a process may hold in memory.
HELD_BYTES = 128 * 1024 * 1024
# A response holds no thread while its client reads, so slow readers may be much slower than slow senders.
READER_PATIENCE = 3
READER_RATE_SHARE = 8
# What else a process has open: files that are sent, connections to the database and to Valkey.
OTHER_FILES = 256
# How long, and for how many bytes, a closed connection is read on so that its client sees the response.
LINGER_SECONDS = 5.0
STOP_LINGER_SECONDS = 1.0
LINGER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What clients may hold of one process."""

    slow_seconds: float
    """A request head must be complete within this time, and a body that stops this long is given up."""
    min_rate: float
    """Bytes per second that a streamed body must keep up."""
    connections: int
    """Open connections of one process."""
    connections_per_address: int
    """Open connections of one process and one client; 0: no limit, because the peer is a proxy."""
    streams: int
    """Threads of one process that may read large bodies at the same time."""
    streams_per_address: int
    requests_per_client: int
    """Requests of one client that run in the general threads of a process at the same time."""

    @property
    def stream_wait_seconds(self) -> float:
        """How long a request waits for a stream, without a thread, before its client has to come back."""
        return self.slow_seconds / 2


def limits() -> Limits:
    """Return the limits that the settings name, with no more connections than a process may have files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    per_address = 0 if settings.ALLAUTH_TRUSTED_PROXY_COUNT else settings.WEB_CONNECTIONS_PER_ADDRESS
    return Limits(
        slow_seconds=settings.WEB_SLOW_SECONDS,
        min_rate=settings.WEB_MIN_RATE,
        connections=max(1, min(settings.WEB_CONNECTIONS, files - OTHER_FILES)),
        connections_per_address=per_address,
        streams=settings.WEB_STREAMS,
        streams_per_address=settings.WEB_STREAMS_PER_ADDRESS,
        requests_per_client=settings.WEB_REQUESTS_PER_CLIENT,
    )


def client_key(address: str) -> str:
    """Return what stands for one client: the address, or the /64 that an IPv6 client owns whole."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped) if ip.ipv4_mapped else f"{int(ip) >> 64:x}::/64"
    return str(ip)


def client_address(peer: str, forwarded_for: str) -> str:
    """Return the client's address as the pages see it: behind trusted proxies the one that they report."""
    request = HttpRequest()
    request.META = {"REMOTE_ADDR": peer}
    if forwarded_for:
        request.META["HTTP_X_FORWARDED_FOR"] = forwarded_for
    try:
        return str(get_adapter(request).get_client_ip(request))
    except (ImproperlyConfigured, PermissionDenied, ValueError):
        return peer
