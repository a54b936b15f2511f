"""The socket on which the web server accepts, kept by the supervisor.

It outlives a web server that dies: while another one starts, new connections wait in the queue of the system
instead of being refused.
"""

import socket

from ipau.supervisor.programs import Address

# Connections that wait to be accepted, as in gunicorn.
BACKLOG = 2048


def bind(address: Address) -> socket.socket:
    """Return a socket that has an address to itself. Raises OSError where that is taken, or not ours."""
    bound = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
    except OSError:
        bound.close()
        raise
    return bound


def listen(address: Address) -> socket.socket:
    """Return a socket on which connections arrive from now on. Raises OSError."""
    bound = bind(address)
    bound.listen(BACKLOG)
    return bound
