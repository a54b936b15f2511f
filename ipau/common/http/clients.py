"""Identify the client of a request: the account, or the network address of an anonymous client."""

import ipaddress
from collections.abc import Callable
from functools import partial

from allauth.account.adapter import get_adapter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from ipau.common.http import concurrency

# One IPv6 client usually owns all addresses of a /64 network.
_IPV6_PREFIX = 64


class ConcurrencyMiddleware:
    """Tells `concurrency` which client a thread works for, so that it can limit the client's waits."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with concurrency.request_of(partial(person_of, request)):
            return self.get_response(request)


def person_of(request: HttpRequest) -> str:
    """Return the client of a request, without white space: `user:<id>` or `address:<network>`."""
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return f"user:{user.pk}"
    return f"address:{client_network(request)}"


def client_network(request: HttpRequest) -> str:
    """Return the client's IPv4 address or IPv6 /64 network; "unknown" if no proxy reports a valid one."""
    try:
        address = ipaddress.ip_address(get_adapter(request).get_client_ip(request).partition("%")[0])
    except (PermissionDenied, ValueError):
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, _IPV6_PREFIX), strict=False).network_address)
