"""Webhook URL policy (SSRF protection): deliveries go to public addresses only, never to private networks.

A host name may resolve to one address during the check and to another one later (DNS rebinding). So the name
is resolved once, every IP address is checked, and the connection uses one of the checked addresses.
"""

import ipaddress
import re
import socket
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host
from django.utils.translation import gettext as _

LONGEST = 500
PORTS = {"https": 443, "http": 80}
# Lower ports belong to other services, except 80 and 443.
FIRST_FREE_PORT = 1024
# Seconds for a DNS lookup.
DNS_TIMEOUT_SECONDS = 3.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Not public, although `is_global` says so: protocol assignments, 6to4 relays, the Azure wire server.
_INSIDE_4 = [ipaddress.IPv4Network(n) for n in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")]
# Public unicast, without ranges that embed other addresses (Teredo, 6to4) or are for documentation.
_OUTSIDE_6 = ipaddress.IPv6Network("2000::/3")
_INSIDE_6 = [ipaddress.IPv6Network(n) for n in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
# IPv6-only networks reach IPv4 through these. The last four bytes are the IPv4 address.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# Resolvers read hosts with such an end as IP addresses: 0x7f.1, 2130706433.
_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$")

# Bounds the threads and memory that slow or hostile name servers can hold.
_lookups = threading.BoundedSemaphore(32)


class AddressRefused(Exception):
    """The address is not allowed. The message says why."""


class NoSuchName(Exception):
    """The host name has no IP address."""


class NoAnswer(Exception):
    """The name servers did not answer."""


@dataclass(frozen=True)
class DeliveryAddress:
    """A parsed URL. `host` is lower-case ASCII, `path` includes the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def name(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        return self.name if self.port == PORTS[self.scheme] else f"{self.name}:{self.port}"


def read(url: str) -> DeliveryAddress:
    """Return the parts of a webhook URL. The host is not resolved.

    Raises:
        AddressRefused: not a web address, an address of this site, or one with a password or a bad port.
    """
    if len(url) > LONGEST or not url.isprintable() or any(letter in url for letter in " \\"):
        raise AddressRefused(_("Enter a web address of at most 500 characters, without spaces."))
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode("ascii").lower()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path.encode("ascii")
    except ValueError as error:
        raise AddressRefused(_("This is not a valid web address.")) from error
    if parts.scheme not in PORTS or not host:
        raise AddressRefused(_("Enter a full web address that starts with https://."))
    if parts.scheme == "http" and not settings.WEBHOOK_ALLOW_HTTP:
        raise AddressRefused(_("Only addresses that start with https:// are supported."))
    if "%" in host or (_NUMBER.search(host) and not _is_address(host)):
        raise AddressRefused(_("Enter a host name, or an IP address in its usual form."))
    if parts.username is not None or parts.password is not None:
        raise AddressRefused(_("Remove user name and password from the address. Deliveries are signed."))
    target = DeliveryAddress(parts.scheme, host, PORTS[parts.scheme] if port is None else port, path)
    if target.port < FIRST_FREE_PORT and target.port not in PORTS.values():
        raise AddressRefused(_("Use port 80, port 443, or a port of 1024 or higher."))
    if _is_ours(target):
        raise AddressRefused(_("This address belongs to this site. Enter an address of another site."))
    return target


def check(url: str) -> None:
    """Check a webhook URL. A URL with a slow name server passes for now.

    Raises:
        AddressRefused: the address is not allowed, or its host does not exist.
    """
    target = read(url)
    try:
        resolve(target)
    except NoSuchName as error:
        raise AddressRefused(str(error)) from error
    except NoAnswer:
        return


def resolve(target: DeliveryAddress, *, timeout: float = DNS_TIMEOUT_SECONDS) -> list[str]:
    """Return the IP addresses of a target. All of them are allowed.

    Raises:
        AddressRefused: one of them is in a private network.
        NoSuchName: the host name has no IP address.
        NoAnswer: the name servers did not answer within `timeout` seconds.
    """
    addresses = _look_up(target, timeout)
    if not all(_is_allowed(ipaddress.ip_address(text.partition("%")[0])) for text in addresses):
        raise AddressRefused(_("This address is in a private network. Enter a public address."))
    return addresses


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_ours(target: DeliveryAddress) -> bool:
    """Return whether an address belongs to this site: its webhooks could trigger each other."""
    base = urlsplit(settings.BASE_URL)
    if target.port not in {*PORTS.values(), base.port or PORTS.get(base.scheme)}:
        return False
    names = [name for name in settings.ALLOWED_HOSTS if name.strip("*.")]
    return target.host == base.hostname or validate_host(target.name, names)


def _look_up(target: DeliveryAddress, timeout: float) -> list[str]:
    no_answer = NoAnswer(_("The name servers of “%(name)s” did not answer.") % {"name": target.host})
    if not _lookups.acquire(timeout=timeout):
        raise no_answer
    answers: SimpleQueue[list[str] | OSError] = SimpleQueue()
    threading.Thread(target=_query_dns, args=(target, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except Empty as error:
        raise no_answer from error
    if isinstance(answer, list):
        return answer
    if isinstance(answer, socket.gaierror) and answer.errno != socket.EAI_AGAIN:
        raise NoSuchName(_("The host name “%(name)s” does not exist.") % {"name": target.host})
    raise no_answer


def _query_dns(target: DeliveryAddress, answers: "SimpleQueue[list[str] | OSError]") -> None:
    try:
        rows = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        answers.put(list(dict.fromkeys(str(row[4][0]) for row in rows)))
    except OSError as error:
        answers.put(error)
    finally:
        _lookups.release()


def _is_allowed(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        embedded = address.ipv4_mapped
        if embedded is None and address in _NAT64:
            embedded = ipaddress.IPv4Address(address.packed[-4:])
        if embedded is not None:
            return _is_allowed(embedded)
    if any(address in network for network in settings.WEBHOOK_ALLOWED_NETWORKS):
        return True
    if isinstance(address, ipaddress.IPv6Address):
        return address in _OUTSIDE_6 and not any(address in network for network in _INSIDE_6)
    special = address.is_multicast or address.is_reserved or any(address in network for network in _INSIDE_4)
    return address.is_global and not special
