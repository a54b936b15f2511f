"""Messages between a slot and its model processes: JSON over a local socket, arrays in shared memory."""

from __future__ import annotations

import json
import mmap
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_MESSAGE_BYTES = 64 * 1024
_MOST_DESCRIPTORS = 2
# Arrays start at multiples of this many bytes, for vector instructions.
ALIGNMENT = 64


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a channel that preserves message boundaries."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message. Raises OSError if the other process has ended."""
    socket.send_fds(channel, [json.dumps(message).encode()], list(descriptors), socket.MSG_NOSIGNAL)


def receive(channel: socket.socket, *, most_descriptors: int = 0) -> tuple[dict[str, Any], list[int]]:
    """Wait for a message; return it and the file descriptors sent with it.

    Raises:
        EOFError: the other process has ended.
        TimeoutError: no message arrived within the channel's timeout.
        ValueError: the message is not a JSON object.
    """
    if most_descriptors:
        data, descriptors, _flags, _address = socket.recv_fds(
            channel, _MOST_MESSAGE_BYTES, min(most_descriptors, _MOST_DESCRIPTORS)
        )
    else:
        data, descriptors = channel.recv(_MOST_MESSAGE_BYTES), []
    if not data:
        raise EOFError
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("A message must be a JSON object.")
    return message, descriptors


class SharedMemory:
    """Memory shared by two processes. Its size is sealed, so that neither can shrink it under the other."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, size)

    @classmethod
    def create(cls, size: int) -> SharedMemory:
        """Allocate at least `size` bytes. Raises OSError, MemoryError."""
        import fcntl

        size = max(mmap.PAGESIZE, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        descriptor = os.memfd_create("ipau-arrays", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            return cls(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise

    def array(self, shape: Sequence[int], dtype: Any, offset: int = 0) -> NDArray[Any]:
        """Return a view of the memory as an array. Raises ValueError if it reaches beyond the end."""
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._map, np.dtype(dtype), count, offset).reshape(shape)

    def view(self) -> memoryview:
        return memoryview(self._map)

    def close(self) -> None:
        """Close the descriptor. The last array that uses the memory releases it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def aligned(offset: int) -> int:
    """Return the next offset at which an array may start."""
    return -(-offset // ALIGNMENT) * ALIGNMENT
