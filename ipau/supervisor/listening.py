"""Listening socket of the web server, owned by the supervisor.

It survives a crash of the web server. Until the web server has restarted, new connections wait in the
kernel's backlog instead of being refused.
"""

import socket

from ipau.supervisor.programs import Address

# Maximum number of connections that wait to be accepted, as in gunicorn.
BACKLOG = 2048


def bind(address: Address) -> socket.socket:
    """Return a socket bound to an address. Raises OSError if the address is in use or not permitted."""
    bound = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
    except OSError:
        bound.close()
        raise
    return bound


def listen(address: Address) -> socket.socket:
    """Return a listening socket. Raises OSError."""
    bound = bind(address)
    bound.listen(BACKLOG)
    return bound
