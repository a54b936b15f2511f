"""Whether a slot itself holds memory that earlier images left behind, so that the next one lacks it."""

import errno
import os
from pathlib import Path

from workers.plugin import OperationError

# A slot that holds more than this share of its memory, beyond what it began with, is no longer fresh.
GROWN_SHARE = 0.25
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NO_MEMORY = ("failed to map segment", "cannot allocate memory")

# What this slot may hold before it is no longer fresh; None in processes that are no slots.
_most: float | None = None


def note_start(limit: int) -> None:
    """Remember how much this slot holds before its first image.

    Args:
        limit: of its memory, in bytes.
    """
    global _most
    _most = _held() + GROWN_SHARE * limit


def has_grown() -> bool:
    """Tell whether this slot holds so much more than at its start that another would have more room."""
    return _most is not None and _held() > _most


def is_lack_of_memory(error: BaseException) -> bool:
    """Tell whether an image failed because there was no memory left, whoever says so in whatever way."""
    if isinstance(error, OperationError):
        return error.code == "memory"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    # A library that is loaded late says so in words.
    is_import = isinstance(error, ImportError | OSError)
    said = str(error).lower()
    return isinstance(error, MemoryError) or (is_import and any(text in said for text in _NO_MEMORY))


def _held() -> int:
    """Return the bytes of memory that are this process's own: without files, and what drivers reserve."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * _PAGE
