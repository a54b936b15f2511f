"""Bounded random access to the bytes of a file."""

from __future__ import annotations

import re
from typing import BinaryIO

CHUNK = 256 * 1024
# More parts than any camera or editor writes. Each one costs time.
MOST_PARTS = 100_000


class FormatError(Exception):
    """The bytes violate their format, or cannot be parsed safely."""


class TooManyPartsError(FormatError):
    """The file has more parts than the limit."""


class ByteSource:
    """A stream with checked reads.

    Args:
        most_parts: limit of counted parts.
    """

    def __init__(self, stream: BinaryIO, most_parts: int = MOST_PARTS):
        self.stream = stream
        self.size = stream.seek(0, 2)
        self._parts_left = most_parts

    def at(self, start: int, length: int) -> bytes:
        """Return exactly these bytes. Raises FormatError if they are missing."""
        self.check(start, length)
        self.stream.seek(start)
        data = self.stream.read(length)
        if len(data) != length:
            raise FormatError("The file ends too early.")
        return data

    def check(self, start: int, length: int) -> None:
        """Raise FormatError unless the file has these bytes."""
        if start < 0 or length < 0 or start + length > self.size:
            raise FormatError("A part of the file reaches beyond its end.")

    def count_part(self, weight: int = 1) -> None:
        """Count one more part, as `weight` parts. Raises TooManyPartsError."""
        self._parts_left -= weight
        if self._parts_left < 0:
            raise TooManyPartsError("The file has too many parts.")

    def find(self, pattern: re.Pattern[bytes], start: int) -> int:
        """Return the offset of the first two bytes that match. Raises FormatError if there are none."""
        while start < self.size:
            data = self.at(start, min(CHUNK, self.size - start))
            if match := pattern.search(data):
                return start + match.start()
            # Overlap by one byte, because the first of the two may be the last byte of this chunk.
            start += max(1, len(data) - 1)
        raise FormatError("The file has no end mark.")
