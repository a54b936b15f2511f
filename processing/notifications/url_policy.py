"""Where deliveries may go: to the open internet, never inside.

Whoever writes down an address may have a name lead anywhere, to one place when it is checked and to another
when it is used. So a name is resolved here, every address found is checked, and the connection goes to one of
those.
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
# Below these ports live services that are no web servers, save for 80 and 443.
FIRST_FREE_PORT = 1024
# Seconds for finding the addresses of a name.
PATIENCE = 3.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What `is_global` takes for public and is not: protocol assignments, 6to4 relays, Azure's wire server.
_INSIDE_4 = [ipaddress.IPv4Network(n) for n in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")]
# Public unicast, less what carries other addresses in itself (Teredo, 6to4) or is for documents only.
_OUTSIDE_6 = ipaddress.IPv6Network("2000::/3")
_INSIDE_6 = [ipaddress.IPv6Network(n) for n in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
# Networks without IPv4 reach it by these; the last four bytes say where.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# What ends so is taken for an IP address by resolvers, however oddly it is written: 0x7f.1, 2130706433.
_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$")

# A name server that is slow, perhaps on purpose, must not hold what waits for it, nor fill the memory.
_lookups = threading.BoundedSemaphore(32)


class AddressRefused(Exception):
    """An address to which nothing is delivered; its text says why."""


class NoSuchName(Exception):
    """A name that has no address; its text says so."""


class NoAnswer(Exception):
    """A name of which nothing is known just now; its text says so."""


@dataclass(frozen=True)
class DeliveryAddress:
    """A web address in its parts; `host` is lower-case ASCII, `path` has the query with it."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def name(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        """What a request names as its host."""
        return self.name if self.port == PORTS[self.scheme] else f"{self.name}:{self.port}"


def read(url: str) -> DeliveryAddress:
    """Return the parts of an address to which something might be delivered.

    Raises:
        AddressRefused: not a web address, one of this site, or one with a password or an unsupported port.
    """
    if len(url) > LONGEST or not url.isprintable() or any(letter in url for letter in " \\"):
        raise AddressRefused(_("Write a web address of up to 500 characters, without spaces."))
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".").encode("idna").decode("ascii").lower()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path.encode("ascii")
    except ValueError as error:
        raise AddressRefused(_("This is no web address.")) from error
    if parts.scheme not in PORTS or not host:
        raise AddressRefused(_("Write a whole web address that begins with https://."))
    if parts.scheme == "http" and not settings.WEBHOOK_ALLOW_HTTP:
        raise AddressRefused(_("Only addresses that begin with https:// are taken."))
    if "%" in host or (_NUMBER.search(host) and not _is_address(host)):
        raise AddressRefused(_("Write a name, or an IP address in its usual form."))
    if parts.username is not None or parts.password is not None:
        raise AddressRefused(_("Leave name and password out of the address. Deliveries are signed instead."))
    target = DeliveryAddress(parts.scheme, host, PORTS[parts.scheme] if port is None else port, path)
    if target.port < FIRST_FREE_PORT and target.port not in PORTS.values():
        raise AddressRefused(_("Use port 80, 443, or one from 1024 on."))
    if _is_ours(target):
        raise AddressRefused(_("This is an address of this site itself. Name one of another site."))
    return target


def check(url: str) -> None:
    """Refuse an address to which nothing will be delivered. One whose name server is slow passes for now.

    Raises:
        AddressRefused: it will not do.
    """
    target = read(url)
    try:
        resolve(target)
    except NoSuchName as error:
        raise AddressRefused(str(error)) from error
    except NoAnswer:
        return


def resolve(target: DeliveryAddress, *, patience: float = PATIENCE) -> list[str]:
    """Return the addresses of a target, each of them one to which we may deliver.

    Raises:
        AddressRefused: one of them leads inside.
        NoSuchName: the name has none.
        NoAnswer: the name servers do not answer, or not within `patience` seconds.
    """
    found = _look_up(target, patience)
    if not all(_may_reach(ipaddress.ip_address(text.partition("%")[0])) for text in found):
        raise AddressRefused(_("This address leads into a private network, to which nothing is delivered."))
    return found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_ours(target: DeliveryAddress) -> bool:
    """Tell whether an address leads to this site, which would then tell itself in a circle."""
    base = urlsplit(settings.BASE_URL)
    if target.port not in {*PORTS.values(), base.port or PORTS.get(base.scheme)}:
        return False
    names = [name for name in settings.ALLOWED_HOSTS if name.strip("*.")]
    return target.host == base.hostname or validate_host(target.name, names)


def _look_up(target: DeliveryAddress, patience: float) -> list[str]:
    silent = NoAnswer(_("The name servers of “%(name)s” did not answer.") % {"name": target.host})
    if not _lookups.acquire(timeout=patience):
        raise silent
    answers: SimpleQueue[list[str] | OSError] = SimpleQueue()
    threading.Thread(target=_ask, args=(target, answers), daemon=True).start()
    try:
        found = answers.get(timeout=patience)
    except Empty as error:
        raise silent from error
    if isinstance(found, list):
        return found
    if isinstance(found, socket.gaierror) and found.errno != socket.EAI_AGAIN:
        raise NoSuchName(_("There is no address for the name “%(name)s”.") % {"name": target.host})
    raise silent


def _ask(target: DeliveryAddress, answers: "SimpleQueue[list[str] | OSError]") -> None:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        answers.put(list(dict.fromkeys(str(row[4][0]) for row in found)))
    except OSError as error:
        answers.put(error)
    finally:
        _lookups.release()


def _may_reach(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        within = address.ipv4_mapped
        if within is None and address in _NAT64:
            within = ipaddress.IPv4Address(address.packed[-4:])
        if within is not None:
            return _may_reach(within)
    if any(address in network for network in settings.WEBHOOK_ALLOWED_NETWORKS):
        return True
    if isinstance(address, ipaddress.IPv6Address):
        return address in _OUTSIDE_6 and not any(address in network for network in _INSIDE_6)
    odd = address.is_multicast or address.is_reserved or any(address in network for network in _INSIDE_4)
    return address.is_global and not odd
