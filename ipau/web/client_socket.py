"""Client socket for gunicorn and the application: reads have a time limit, writes never block."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
import time
from collections import deque
from itertools import islice

# Limit of the kernel's send buffer for a client that does not read. The kernel's default is 4 MiB.
UNSENT_BYTES = 256 * 1024
# Collect small pieces up to this size, then send them together.
FLUSH_BYTES = 16 * 1024
_PIECES_AT_ONCE = 64


class SlowClientError(TimeoutError):
    """The client sends its request below the minimum rate."""


class WaitBudget:
    """Seconds that a thread may wait for a client. Bytes received at the minimum rate refill the budget."""

    def __init__(self, seconds: float, rate: float):
        self._most = self._left = seconds
        self._rate = rate

    @property
    def left(self) -> float:
        """Remaining seconds; 0 or less if the budget is spent."""
        return self._left

    def spend(self, seconds: float) -> None:
        """Subtract waiting time."""
        self._left -= seconds

    def earn(self, count: int) -> None:
        """Add the time for `count` bytes at the minimum rate, up to the initial budget."""
        self._left = min(self._most, self._left + count / self._rate)


class ClientSocket:
    """A non-blocking socket with a buffer for unsent data.

    `recv` waits for the client only between `allow_waiting` and `forbid_waiting`. Otherwise it returns the
    available bytes, or none, which means the end of the request.
    """

    def __init__(self, sock: socket.socket):
        sock.setblocking(False)
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self.raw = sock
        self.is_too_slow = False
        self.sent = 0
        self.unsent_bytes = 0
        self._unsent: deque[memoryview] = deque()
        self._budget: WaitBudget | None = None

    def allow_waiting(self, budget: WaitBudget) -> None:
        """Let `recv` wait for the client until the budget is spent."""
        self._budget = budget
        self.is_too_slow = False

    def forbid_waiting(self) -> None:
        """Let `recv` return only available bytes."""
        self._budget = None

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end.

        Raises:
            SlowClientError: the client is below the minimum rate.
        """
        while True:
            try:
                data = self.raw.recv(size)
            except BlockingIOError:
                if self._budget is None:
                    return b""
                self._wait(self._budget)
                continue
            if self._budget is not None:
                self._budget.earn(len(data))
            return data

    def _wait(self, budget: WaitBudget) -> None:
        poll = select.poll()
        poll.register(self.raw, select.POLLIN)
        began = time.monotonic()
        ready = budget.left > 0 and poll.poll(budget.left * 1000)
        budget.spend(time.monotonic() - began)
        if not ready:
            self.is_too_slow = True
            raise SlowClientError("the client sends too slowly")

    def sendall(self, data: bytes) -> None:
        """Buffer `data`. `flush` sends it."""
        if data:
            self._unsent.append(memoryview(data))
            self.unsent_bytes += len(data)

    def send(self, data: bytes) -> int:
        """Buffer `data` and send as much as possible now; return its length."""
        self.sendall(data)
        self.flush()
        return len(data)

    def flush(self) -> bool:
        """Send as much as the client's window accepts; return whether the buffer is empty.

        Raises:
            OSError: the client has disconnected.
        """
        while self._unsent:
            try:
                sent = self.raw.sendmsg(list(islice(self._unsent, _PIECES_AT_ONCE)))
            except BlockingIOError:
                return False
            self.sent += sent
            self.unsent_bytes -= sent
            self._drop(sent)
        return True

    def _drop(self, count: int) -> None:
        while count:
            piece = self._unsent[0]
            if len(piece) > count:
                self._unsent[0] = piece[count:]
                return
            count -= len(piece)
            self._unsent.popleft()

    def reset(self) -> None:
        """Drop unsent data, here and in the kernel. `close` then resets the connection."""
        self._unsent.clear()
        self.unsent_bytes = 0
        with contextlib.suppress(OSError):
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def received_by_client(self) -> int:
        """Return the number of bytes that the client's machine has acknowledged."""
        waiting = struct.unpack("i", fcntl.ioctl(self.raw.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
        return self.sent - int(waiting)

    def fileno(self) -> int:
        """Return the file descriptor; -1 if the socket is closed."""
        return self.raw.fileno()

    def gettimeout(self) -> float:
        """Return 0: the socket itself never blocks."""
        return 0.0

    def settimeout(self, _seconds: float | None) -> None:
        """Do nothing: the budget limits the waiting time."""

    def setblocking(self, _blocking: bool | int) -> None:
        """Do nothing: the socket itself never blocks."""

    def shutdown(self, how: int) -> None:
        """Shut down one direction of the connection (`socket.SHUT_WR`)."""
        with contextlib.suppress(OSError):
            self.raw.shutdown(how)

    def close(self) -> None:
        """Close the socket. The kernel still delivers sent data."""
        with contextlib.suppress(OSError):
            self.raw.close()
