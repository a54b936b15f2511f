"""Memory of a slot: whether earlier images left memory behind, and whether an error means lack of memory."""

import errno
import os
from pathlib import Path

from workers.plugin import OperationError

# A slot has grown when it holds this share of its limit more than at its start.
GROWN_SHARE = 0.25
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NO_MEMORY = ("failed to map segment", "cannot allocate memory")

# Bytes above which this slot has grown. None in processes that are not slots.
_limit: float | None = None


def note_start(limit: int) -> None:
    """Record the memory of this slot before its first image.

    Args:
        limit: memory limit of the slot, in bytes.
    """
    global _limit
    _limit = _private_bytes() + GROWN_SHARE * limit


def has_grown() -> bool:
    """Return whether this slot holds so much more memory than at its start that a fresh slot would help."""
    return _limit is not None and _private_bytes() > _limit


def is_lack_of_memory(error: BaseException) -> bool:
    """Return whether an image failed for lack of memory, whichever library raised the error."""
    if isinstance(error, OperationError):
        return error.code == "memory"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    # Libraries that are loaded late report it only in the message.
    is_import = isinstance(error, ImportError | OSError)
    message = str(error).lower()
    return isinstance(error, MemoryError) or (is_import and any(text in message for text in _NO_MEMORY))


def _private_bytes() -> int:
    """Return the private memory of this process in bytes, without mapped files and driver reservations."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * _PAGE
