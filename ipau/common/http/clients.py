"""Who sends a request: an account, or where nobody is signed in a network address."""

import ipaddress
from collections.abc import Callable
from functools import partial

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from ipau.common.http import concurrency

# Whoever has one address in a network of this size has all of them.
_IPV6_PREFIX = 64


class ConcurrencyMiddleware:
    """Tells `concurrency` whose request a thread works on, which limits its waits."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with concurrency.request_of(partial(person_of, request)):
            return self.get_response(request)


def person_of(request: HttpRequest) -> str:
    """Return who sent a request, as a text without white space: the user, or else the client's network."""
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return f"user:{user.pk}"
    return f"address:{client_network(request)}"


def client_network(request: HttpRequest) -> str:
    """Return the address of a client, or of IPv6 the network; "unknown" where no proxy tells a usable one."""
    try:
        address = ipaddress.ip_address(get_adapter(request).get_client_ip(request).partition("%")[0])
    except (PermissionDenied, ValueError):
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, _IPV6_PREFIX), strict=False).network_address)
