"""Bytes read at any place, from memory or a file, within bounds."""

from __future__ import annotations

import re
from typing import BinaryIO

CHUNK = 256 * 1024
# More parts than any camera or editor writes; each costs a look.
MOST_PARTS = 100_000


class FormatError(Exception):
    """These bytes are not built as their format says, or in a way that cannot be taken apart safely."""


class TooManyPartsError(FormatError):
    """They have more parts than the reader may look at."""


class ByteSource:
    """The original, of which every read is checked.

    Args:
        most_parts: how many parts may be counted.
    """

    def __init__(self, stream: BinaryIO, most_parts: int = MOST_PARTS):
        self.stream = stream
        self.size = stream.seek(0, 2)
        self._parts_left = most_parts

    def at(self, start: int, length: int) -> bytes:
        """Return exactly these bytes. Raises FormatError where they are not there."""
        self.check(start, length)
        self.stream.seek(start)
        data = self.stream.read(length)
        if len(data) != length:
            raise FormatError("It ends too early.")
        return data

    def check(self, start: int, length: int) -> None:
        """Raise FormatError unless the original has these bytes."""
        if start < 0 or length < 0 or start + length > self.size:
            raise FormatError("A part lies beyond its end.")

    def count_part(self, weight: int = 1) -> None:
        """Count one more part, which costs as much as so many others. Raises TooManyPartsError."""
        self._parts_left -= weight
        if self._parts_left < 0:
            raise TooManyPartsError("It has too many parts.")

    def find(self, pattern: re.Pattern[bytes], start: int) -> int:
        """Return where two bytes that match lie first. Raises FormatError where there are none."""
        while start < self.size:
            data = self.at(start, min(CHUNK, self.size - start))
            if match := pattern.search(data):
                return start + match.start()
            # The first of the two may have been the last byte of this look.
            start += max(1, len(data) - 1)
        raise FormatError("It has no end mark.")
