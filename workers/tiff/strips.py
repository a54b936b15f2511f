"""Read the samples of a TIFF at full depth, strip by strip or tile by tile.

Pillow reads samples of 8 bits, and a few deeper ones. Byte compressions (LZW, Deflate, PackBits, LZMA,
Zstandard) do not depend on the sample type. So Pillow's libtiff decompresses them here as rows of 8-bit
pixels, and NumPy splits the rows into samples.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.tiff.headers import read_numbers
from workers.tiff.layout import (
    FLOAT,
    FLOATING_POINT,
    HORIZONTAL,
    SIGNED,
    UNCOMPRESSED,
    WEBP,
    SampleLayout,
    packed_bytes,
)

Samples = NDArray[Any]
Bytes = NDArray[np.uint8]
# Offset and length in the file. A row has all chunks of the same height.
Chunk = tuple[int, int]
Rows = Sequence[Sequence[Chunk]]

# Bytes that are decompressed at a time. If samples are not whole bytes, each bit becomes a byte.
_BAND_BYTES, _BIT_BAND_BYTES = 16 * 1024 * 1024, 2 * 1024 * 1024
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_LETTERS = {SIGNED: "i", FLOAT: "f"}


class DamagedError(Exception):
    """Strips or tiles are missing, too short, or of another size than in the tags."""


def read_samples(stream: IO[bytes], layout: SampleLayout) -> Iterator[tuple[int, Samples]]:
    """Yield bands of rows from top to bottom, each with the index of its first row.

    A band has the shape (rows, width, samples). Its values have the file's number type. Unsigned ones of less
    than 8 bits are uint8, of 9 to 15 bits uint16.

    Raises:
        DamagedError: the file does not match its tags. Pillow raises OSError if a decoder fails.
    """
    layout, chunks = _find_chunks(stream, layout)
    bytes_down = layout.row_bytes * layout.across * layout.chunk_height * layout.planes
    band = _BAND_BYTES if layout.bits in (8, 16, 32, 64) else _BIT_BAND_BYTES
    step = max(1, band // bytes_down)
    for first in range(0, layout.down, step):
        last = min(first + step, layout.down)
        planes = [
            _read_plane(
                stream, layout, chunks[plane * layout.down + first : plane * layout.down + last], first
            )
            for plane in range(layout.planes)
        ]
        top = first * layout.chunk_height
        joined = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)
        yield top, joined[: layout.height - top]


def _find_chunks(stream: IO[bytes], layout: SampleLayout) -> tuple[SampleLayout, list[list[Chunk]]]:
    """Return offset and length of each chunk, by rows of chunks, and their layout.

    An uncompressed strip is split into pieces of some rows.
    """
    size = stream.seek(0, 2)
    offsets = read_numbers(stream, layout.offsets, layout.file, size)
    counts = read_numbers(stream, layout.counts, layout.file, size) if layout.counts else ()
    number = layout.across * layout.down * layout.planes
    if layout.compression == UNCOMPRESSED:
        # Some writers store wrong byte counts. The length follows from the layout.
        counts = (size,) * len(offsets)
    if len(offsets) < number or len(counts) < number:
        raise DamagedError("There are fewer strips or tiles than the image needs.")
    chunks = list(zip(offsets[:number], counts[:number], strict=True))
    if layout.compression == UNCOMPRESSED and not layout.is_tiled:
        return _split_strips(layout, chunks)
    return layout, [chunks[at : at + layout.across] for at in range(0, number, layout.across)]


def _split_strips(layout: SampleLayout, chunks: list[Chunk]) -> tuple[SampleLayout, list[list[Chunk]]]:
    rows = max(1, _BIT_BAND_BYTES // layout.row_bytes)
    if rows >= layout.chunk_height:
        return layout, [[chunk] for chunk in chunks]
    while layout.chunk_height % rows:
        rows -= 1
    pieces = []
    for index, (start, length) in enumerate(chunks):
        top = index % layout.down * layout.chunk_height
        for row in range(0, min(layout.chunk_height, layout.height - top), rows):
            pieces.append([(start + row * layout.row_bytes, length)])
    return replace(layout, chunk_height=rows), pieces


def _read_plane(stream: IO[bytes], layout: SampleLayout, chunks: Rows, first: int) -> Samples:
    """Return the samples of some rows of chunks, shape (rows, width, samples of a chunk)."""
    height = len(chunks) * layout.chunk_height
    if not layout.is_tiled:
        # The last strip ends with the image.
        height = min(height, layout.height - first * layout.chunk_height)
    if layout.compression == UNCOMPRESSED:
        rows = _read_plain(stream, layout, chunks, height)
    elif layout.compression == WEBP:
        rows = _read_webp(stream, layout, chunks, height)
    else:
        rows = _decompress(stream, layout, chunks, height)
    values = _to_numbers(rows, layout)
    return values.reshape(height, -1, layout.chunk_samples)[:, : layout.width]


def _read_chunk(stream: IO[bytes], layout: SampleLayout, chunk: Chunk, most: int) -> bytes:
    start, length = chunk
    stream.seek(start)
    data = stream.read(min(length, most))
    return data.translate(_REVERSED) if layout.is_bit_reversed else data


def _heights(layout: SampleLayout, chunks: Rows, height: int) -> Iterator[tuple[int, int]]:
    """Yield first and last row of each row of chunks."""
    for index in range(len(chunks)):
        top = index * layout.chunk_height
        yield top, min(top + layout.chunk_height, height)


def _read_plain(stream: IO[bytes], layout: SampleLayout, chunks: Rows, height: int) -> Bytes:
    rows = np.empty((height, layout.across, layout.row_bytes), np.uint8)
    for row, (top, bottom) in zip(chunks, _heights(layout, chunks, height), strict=True):
        for column, chunk in enumerate(row):
            wanted = (bottom - top) * layout.row_bytes
            data = _read_chunk(stream, layout, chunk, wanted)
            if len(data) < wanted:
                raise DamagedError("A strip or tile ends too early.")
            rows[top:bottom, column] = np.frombuffer(data, np.uint8).reshape(bottom - top, -1)
    return rows


def _read_webp(stream: IO[bytes], layout: SampleLayout, chunks: Rows, height: int) -> Bytes:
    """Return the rows of strips or tiles that are WebP files."""
    rows = np.empty((height, layout.across, layout.row_bytes), np.uint8)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(layout.chunk_samples)
    if mode is None:
        raise DamagedError("WebP has one, three or four channels.")
    for row, (top, bottom) in zip(chunks, _heights(layout, chunks, height), strict=True):
        for column, chunk in enumerate(row):
            data = _read_chunk(stream, layout, chunk, chunk[1])
            with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
                if image.size != (layout.chunk_width, bottom - top):
                    raise DamagedError("A strip or tile has another size than in the tags.")
                pixels = np.asarray(image.convert(mode))
            rows[top:bottom, column] = pixels.reshape(bottom - top, -1)
    return rows


def _decompress(stream: IO[bytes], layout: SampleLayout, chunks: Rows, height: int) -> Bytes:
    """Decompress chunks with libtiff, through a temporary TIFF with their bytes as pixels."""
    packed = [_read_chunk(stream, layout, chunk, chunk[1]) for row in chunks for chunk in row]
    file = _write_tiff(packed, layout, height)
    with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
        pixels = np.asarray(image)
    return pixels.reshape(height, layout.across, layout.row_bytes)


def _write_tiff(chunks: Sequence[bytes], layout: SampleLayout, height: int) -> bytes:
    """Return a classic TIFF of 8-bit pixels, with a number of channels that divides a row."""
    channels = packed_bytes(layout.row_bytes)
    width = layout.row_bytes // channels
    # Gray, RGB or CMYK: Pillow returns their bytes unchanged.
    photometric = {1: 1, 3: 2, 4: 5}[channels]
    places, lengths = (324, 325) if layout.is_tiled else (273, 279)
    tags = {
        256: [width * layout.across],
        257: [height],
        258: [8] * channels,
        259: [layout.compression],
        262: [photometric],
        277: [channels],
        places: [0] * len(chunks),
        lengths: [len(chunk) for chunk in chunks],
    }
    tags |= {322: [width], 323: [layout.chunk_height]} if layout.is_tiled else {278: [layout.chunk_height]}
    behind = 8 + 2 + 12 * len(tags) + 4
    at = behind + sum(4 * len(values) for values in tags.values() if len(values) > 1)
    for index, chunk in enumerate(chunks):
        tags[places][index] = at
        at += len(chunk)
    return _write_directory(tags, behind) + b"".join(chunks)


def _write_directory(tags: dict[int, list[int]], behind: int) -> bytes:
    entries, lists = b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack("<I", behind + len(lists))
        lists += packed if len(values) > 1 else b""
        entries += struct.pack("<HHI", tag, 4, len(values)) + place
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0" + lists


def _to_numbers(rows: Bytes, layout: SampleLayout) -> Samples:
    """Return the values in rows of bytes, shape (rows, chunks, width of a chunk, samples)."""
    shape = (*rows.shape[:2], layout.chunk_width, layout.chunk_samples)
    if layout.bits not in (8, 16, 32, 64):
        return _split_bits(rows, layout.bits, shape)
    if layout.is_predicted and layout.predictor == FLOATING_POINT:
        return _undo_floating_point(rows, layout, shape)
    size = layout.bits // 8
    unsigned = np.ascontiguousarray(rows).view(f"{layout.file.order}u{size}").astype(f"=u{size}", copy=False)
    values = unsigned.reshape(shape)
    if layout.is_predicted and layout.predictor == HORIZONTAL:
        values = np.cumsum(values, axis=2, dtype=values.dtype)
    return values.view(f"=f{size}" if layout.sample_format == FLOAT else _integer(layout, size))


def _integer(layout: SampleLayout, size: int) -> str:
    return f"={_LETTERS.get(layout.sample_format, 'u')}{size}"


def _split_bits(rows: Bytes, bits: int, shape: tuple[int, int, int, int]) -> Samples:
    """Split rows into samples of `bits` bits, highest bits first for any byte order. Rows end at bytes."""
    number = shape[2] * shape[3]
    values = np.zeros(shape, np.uint8 if bits <= 8 else np.uint16)
    step = max(1, _BIT_BAND_BYTES // (rows.shape[1] * rows.shape[2]))
    for first in range(0, len(rows), step):
        part = values[first : first + step]
        planes = np.unpackbits(rows[first : first + step], axis=-1, count=number * bits)
        planes = planes.reshape(*part.shape, bits)
        for bit in range(bits):
            part <<= 1
            part |= planes[..., bit]
    return values


def _undo_floating_point(rows: Bytes, layout: SampleLayout, shape: tuple[int, int, int, int]) -> Samples:
    """Undo the floating-point predictor: rows have the highest bytes of all values first, as differences."""
    size = layout.bits // 8
    differences = rows.reshape(*rows.shape[:2], -1, layout.chunk_samples)
    planes = np.cumsum(differences, axis=2, dtype=np.uint8).reshape(*rows.shape[:2], size, -1)
    numbers = np.ascontiguousarray(np.swapaxes(planes, 2, 3)).view(f">f{size}").astype(f"=f{size}")
    return numbers.reshape(shape)
