"""Plan a modified copy as spans of the original file, so that it needs no memory for large files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from workers.formats.byte_source import CHUNK, ByteSource, FormatError


@dataclass(frozen=True)
class Span:
    """Bytes copied unchanged from the original."""

    start: int
    length: int


@dataclass(frozen=True)
class Blank:
    """Zeros."""

    length: int


Piece = bytes | Span | Blank


@dataclass(frozen=True)
class Clean:
    """Plan of the clean copy: its pieces in order. `size` is its length in bytes."""

    pieces: tuple[Piece, ...]
    size: int

    def cut(self, wanted: range) -> Clean:
        """Return the plan for a byte range of the copy."""
        pieces: list[Piece] = []
        position = 0
        for piece in self.pieces:
            length = length_of(piece)
            first, last = max(0, wanted.start - position), min(length, wanted.stop - position)
            if first < last:
                pieces.append(_cut(piece, first, last))
            position += length
        return Clean(tuple(pieces), sum(map(length_of, pieces)))

    def read(self, stream: BinaryIO) -> Iterator[bytes]:
        """Yield the copy in pieces of at most CHUNK bytes.

        Raises:
            FormatError: the original has become shorter since planning.
        """
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            if isinstance(piece, Blank):
                yield from _zeros(piece.length)
                continue
            stream.seek(piece.start)
            left = piece.length
            while left:
                data = stream.read(min(CHUNK, left))
                if not data:
                    raise FormatError("The original ends too early.")
                left -= len(data)
                yield data


def length_of(piece: Piece) -> int:
    """Return the length of a piece in bytes."""
    return len(piece) if isinstance(piece, bytes) else piece.length


def _cut(piece: Piece, first: int, last: int) -> Piece:
    if isinstance(piece, bytes):
        return piece[first:last]
    if isinstance(piece, Blank):
        return Blank(last - first)
    return Span(piece.start + first, last - first)


def _zeros(length: int) -> Iterator[bytes]:
    for start in range(0, length, CHUNK):
        yield bytes(min(CHUNK, length - start))


class CopyPlan:
    """Builder of a plan. It joins neighboring pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytearray | Span | Blank] = []
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add new bytes."""
        self.size += len(data)
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray):
            last += data
        elif data:
            self._pieces.append(bytearray(data))

    def copy(self, source: ByteSource, start: int, length: int) -> None:
        """Add bytes of the original."""
        source.check(start, length)
        self.size += length
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, Span) and last.start + last.length == start:
            self._pieces[-1] = Span(last.start, last.length + length)
        elif length:
            self._pieces.append(Span(start, length))

    def blank(self, length: int) -> None:
        """Add zeros."""
        self.size += length
        if length:
            self._pieces.append(Blank(length))

    def done(self) -> Clean:
        """Return the copy as planned so far."""
        pieces = (bytes(piece) if isinstance(piece, bytearray) else piece for piece in self._pieces)
        return Clean(tuple(pieces), self.size)
