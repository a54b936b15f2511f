"""Log files of the services: kept small, and read for the reason when something does not start."""

import errno
import os
from pathlib import Path
from typing import IO

KEEP_BYTES = 5 * 1024 * 1024
REASONS = ("No space left on device", "Permission denied", "Address already in use", "Cannot allocate memory")


def opened(path: Path) -> IO[bytes]:
    """Open a private log for appending; one that has grown large is first moved to `<name>.1`."""
    rotate(path)
    return open(path, "ab", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def rotate(path: Path) -> None:
    """Move a log that has grown large out of the way, over the one moved before."""
    try:
        if path.stat().st_size > KEEP_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    except FileNotFoundError:
        return


def tail(path: Path, lines: int) -> str:
    """Return the last lines of a log, or nothing if there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 64 * 1024))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def reason(text: str) -> str:
    """Return one sentence with the likely cause found in a program's output, or nothing."""
    for known in REASONS:
        if known in text:
            return f"The system says: {known}. "
    lines = [line.strip() for line in text.splitlines()]
    for word in ("FATAL:", "PANIC:", "error:", "ERROR:", "Fatal"):
        for line in reversed(lines):
            if word in line:
                return f"It says: {line[line.index(word) :].rstrip('.')}. "
    return f"Its last line: {lines[-1].rstrip('.')}. " if lines else ""


def system_reason(error: OSError) -> str:
    """Return what the system says about a failed call, in words."""
    return (
        "no space left on the disk" if error.errno == errno.ENOSPC else os.strerror(error.errno or 0).lower()
    )
