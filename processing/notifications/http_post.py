"""HTTP POST of one webhook delivery to a checked address, with short timeouts and bounded reads."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache

import urllib3
from django.utils.translation import gettext as _
from urllib3.connection import HTTPConnection, HTTPSConnection

from processing.notifications import url_policy
from processing.notifications.outbox import Outcome
from processing.notifications.url_policy import AddressRefused, DeliveryAddress, NoAnswer, NoSuchName

CONNECT_SECONDS = 5.0
# From the first byte sent to the last one read.
TOTAL_SECONDS = 10.0
# IP addresses of a host name that are tried.
MOST_ADDRESSES = 2
# Bytes of a response body that are stored for the account to see.
ANSWER_BYTES = 2000
USER_AGENT = "IPAU-Webhooks/1"
GONE = 410

# urllib3 does not wrap every error of http.client and sockets.
_ERRORS = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)


def post(url: str, body: str, headers: Mapping[str, str]) -> Outcome:
    """Send a body to an address. Return the outcome, also for failures."""
    started = time.monotonic()
    try:
        target = url_policy.read(url)
        addresses = url_policy.resolve(target)
    except AddressRefused as error:
        return Outcome(problem=str(error), final=True, took=_since(started))
    except (NoSuchName, NoAnswer) as error:
        return Outcome(problem=str(error), took=_since(started))
    connection, problem = _connect(target, addresses)
    if connection is None:
        return Outcome(problem=problem, took=_since(started))
    try:
        status, answer = _exchange(connection, target, body, headers)
    except _ERRORS as error:
        return Outcome(problem=_problem_of(error), took=_since(started))
    return _judge(status, answer, _since(started))


def _connect(target: DeliveryAddress, addresses: list[str]) -> tuple[HTTPConnection | None, str]:
    """Connect to a checked IP address. Return the connection, or None and the problem.

    The host name is used only for the certificate and the Host header.
    """
    problem = ""
    for address in addresses[:MOST_ADDRESSES]:
        if target.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                address,
                target.port,
                timeout=CONNECT_SECONDS,
                server_hostname=target.host,
                ssl_context=_trust(),
            )
        else:
            connection = HTTPConnection(address, target.port, timeout=CONNECT_SECONDS)
        try:
            with _Deadline(connection, CONNECT_SECONDS):
                connection.connect()
        except _ERRORS as error:
            connection.close()
            problem = _problem_of(error)
        else:
            return connection, ""
    return None, problem


def _exchange(
    connection: HTTPConnection, target: DeliveryAddress, body: str, headers: Mapping[str, str]
) -> tuple[int, str]:
    """Return the status and the start of the response body. Redirects are not followed."""
    sent = {
        "Host": target.authority,
        "User-Agent": USER_AGENT,
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **headers,
    }
    try:
        with _Deadline(connection, TOTAL_SECONDS) as deadline:
            connection.request(
                "POST",
                target.path,
                body=body.encode(),
                headers=sent,
                preload_content=False,
                decode_content=False,
            )
            response = connection.getresponse()
            if deadline.passed:
                # Truncated headers look like complete ones.
                raise TimeoutError
            answer = b""
            # The status decides. An error in the body changes nothing.
            with suppress(*_ERRORS):
                answer = response.read(ANSWER_BYTES)
            return response.status, answer.decode(errors="replace").replace("\0", "")
    finally:
        connection.close()


class _Deadline:
    """Closes a connection after a total time. Socket timeouts restart with each byte received."""

    def __init__(self, connection: HTTPConnection, seconds: float):
        self._connection = connection
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self.passed = False

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self.passed = True
        sock = self._connection.sock
        if isinstance(sock, socket.socket):
            # Below TLS, because the TLS shutdown would wait for the peer.
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _judge(status: int, answer: str, took: float) -> Outcome:
    if 200 <= status < 300:
        return Outcome(status=status, answer=answer, took=took)
    if status == GONE:
        problem = _("The receiver answered 410 (Gone), so retries stopped.")
    elif 300 <= status < 400:
        problem = _("The receiver answered %(status)s, a redirect. Redirects are not followed.")
    else:
        problem = _("The receiver answered %(status)s.")
    return Outcome(
        problem=problem % {"status": status}, final=status == GONE, status=status, answer=answer, took=took
    )


def _problem_of(error: Exception) -> str:
    # Before timeouts: in urllib3 this error is a subclass of the timeout error.
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return _("The receiver could not be reached. Check the address and its firewall.")
    if isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError):
        return _("The receiver did not answer in time.")
    if isinstance(error, ssl.SSLError | urllib3.exceptions.SSLError):
        return _("The receiver's TLS certificate is not valid for this address, or it does not support TLS.")
    return _("The receiver closed the connection, or did not answer with HTTP.")


def _since(started: float) -> float:
    return (time.monotonic() - started) * 1000
