"""Log files of the embedded services: rotation, and the reason why a service did not start."""

import errno
import os
from pathlib import Path
from typing import IO

KEEP_BYTES = 5 * 1024 * 1024
REASONS = ("No space left on device", "Permission denied", "Address already in use", "Cannot allocate memory")


def opened(path: Path) -> IO[bytes]:
    """Open a private log for appending. A large log is first moved to `<name>.1`."""
    rotate(path)
    return open(path, "ab", opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def rotate(path: Path) -> None:
    """Move a large log to `<name>.1`, replacing the previous one."""
    try:
        if path.stat().st_size > KEEP_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    except FileNotFoundError:
        return


def tail(path: Path, lines: int) -> str:
    """Return the last lines of a log; empty if the file does not exist."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 64 * 1024))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def reason(text: str) -> str:
    """Return a sentence with the likely cause from a program's output, or an empty text."""
    for known in REASONS:
        if known in text:
            return f"System error: {known}. "
    lines = [line.strip() for line in text.splitlines()]
    for word in ("FATAL:", "PANIC:", "error:", "ERROR:", "Fatal"):
        for line in reversed(lines):
            if word in line:
                return f"Its output: {line[line.index(word) :].rstrip('.')}. "
    return f"Its last line of output: {lines[-1].rstrip('.')}. " if lines else ""


def system_reason(error: OSError) -> str:
    """Return the reason of a failed system call, in words."""
    return (
        "no space left on the disk" if error.errno == errno.ENOSPC else os.strerror(error.errno or 0).lower()
    )
