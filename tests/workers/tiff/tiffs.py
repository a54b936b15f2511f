"""TIFF files for tests, written tag by tag: honest ones and hostile ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence

# Tag, type, count, and the value: its bytes, or the number that stands in the directory itself.
Tag = tuple[int, int, int, bytes | int]


def gray_tags(width: int = 64, height: int = 64, *, compression: int = 1, rows: int = 0) -> list[Tag]:
    """What an 8-bit gray picture needs, its pixels at byte 8."""
    rows = rows or height
    return [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)),
        *((273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, rows), (279, 4, 1, width * height)),
    ]


def directory(tags: Sequence[Tag], at: int, *, order: str = "<", big: bool = False, after: int = 0) -> bytes:
    """Return a directory that lies `at` a place, and behind it the values that do not fit into it."""
    entry, pointer, count = ("HHQ", "Q", "Q") if big else ("HHI", "I", "H")
    room = struct.calcsize(order + pointer)
    step = struct.calcsize(order + entry) + room
    behind = at + struct.calcsize(order + count) + step * len(tags) + room
    entries, values = [], b""
    for tag, kind, number, value in tags:
        if isinstance(value, int):
            letter = {3: "H", 4: "I"}.get(kind, pointer) if number == 1 else pointer
            field = struct.pack(order + letter, value).ljust(room, b"\0")
        elif len(value) <= room:
            field = value.ljust(room, b"\0")
        else:
            field = struct.pack(order + pointer, behind + len(values))
            values += value
        entries.append(struct.pack(order + entry, tag, kind, number) + field)
    head = struct.pack(order + count, len(tags))
    return head + b"".join(entries) + struct.pack(order + pointer, after) + values


def tiff(
    tags: Sequence[Tag],
    pixels: bytes = bytes(64 * 64),
    *,
    order: str = "<",
    big: bool = False,
    after: int = 0,
) -> bytes:
    """Return a file: its pixels at byte 8 (BigTIFF: 16), then one directory; `after` points to the next."""
    start = 16 if big else 8
    mark = b"II" if order == "<" else b"MM"
    at = start + len(pixels)
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at))
    return head + pixels + directory(tags, at, order=order, big=big, after=after)


def block(tags: Sequence[Tag], order: str = "<") -> bytes:
    """Return a directory as EXIF has it."""
    return (
        (b"II*\0" if order == "<" else b"MM\0*")
        + struct.pack(order + "I", 8)
        + directory(tags, 8, order=order)
    )


def numbered(
    count: int, kind: int = 4, number: int = 1, value: bytes | int = 7, first: int = 1000
) -> list[Tag]:
    """Return private tags, each of the same value."""
    return [((first + index) & 0xFFFF, kind, number, value) for index in range(count)]
