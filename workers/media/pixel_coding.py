"""Detect lossless coding and chroma subsampling of an image, so that results keep them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from workers.formats.byte_source import ByteSource, FormatError
from workers.formats.isobmff import Box, walk

# Subsamplings that Pillow writes, by the sampling factors of luma and both chroma channels.
_FULL, _USUAL = "4:4:4", "4:2:0"
_SAMPLINGS: dict[tuple[tuple[int, ...], ...], str] = {
    ((1, 1), (1, 1), (1, 1)): _FULL,
    ((2, 1), (1, 1), (1, 1)): "4:2:2",
}
_MOST_CHUNKS, _MOST_BOXES = 100, 10_000
_FRAME_HEAD = 16
_MONOCHROME, _SUBSAMPLED = 0x10, 0x0C
_IDENTITY_MATRIX = 0


@dataclass(frozen=True)
class PixelCoding:
    """`is_lossless`: of a format that can also be lossy. `chroma`: the subsampling, as JPEG names it."""

    is_lossless: bool = False
    chroma: str = _USUAL


def read_coding(stream: BinaryIO, image: Image.Image, format: str) -> PixelCoding:
    """Return the coding of an opened image that is not decoded. Damaged files get the default.

    Args:
        stream: the file of `image`. Its position is moved.
        format: Pillow's name of the format.
    """
    if format == "JPEG":
        return PixelCoding(chroma=_read_sampling(image))
    try:
        if format == "WEBP":
            return PixelCoding(is_lossless=_is_lossless_webp(stream))
        if format == "AVIF":
            return _read_avif(ByteSource(stream, _MOST_BOXES))
    except (FormatError, struct.error):
        pass
    return PixelCoding()


def _read_sampling(image: Image.Image) -> str:
    """Return the subsampling of a JPEG. Channels with equal factors are full, also in CMYK."""
    layers = [tuple(layer[1:3]) for layer in getattr(image, "layer", ())]
    if len(layers) in (3, 4) and len(set(layers)) == 1:
        return _FULL
    return _SAMPLINGS.get(tuple(layers), _USUAL)


def _is_lossless_webp(stream: BinaryIO) -> bool:
    """Return whether the image, or the first frame, is a VP8L chunk. RFC 9649, 2."""
    position = 12
    for _ in range(_MOST_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8 or head[:4] in (b"VP8 ", b"VP8L"):
            return head[:4] == b"VP8L"
        if head[:4] == b"ANMF":
            position += 8 + _FRAME_HEAD
            continue
        length = struct.unpack("<I", head[4:])[0]
        position += 8 + length + length % 2
    return False


def _read_avif(source: ByteSource) -> PixelCoding:
    """Return the coding of an AVIF. Full chroma with an identity matrix is lossless. AV1-ISOBMFF, 2.3."""
    properties = [
        found for box in walk(source, 0, source.size) if box.kind == b"meta" for found in _inside(source, box)
    ]
    configurations = [source.at(box.body + 2, 1)[0] for box in properties if box.kind == b"av1C"]
    # The alpha image is monochrome.
    colored = [flags for flags in configurations if not flags & _MONOCHROME]
    is_full = bool(colored) and not any(flags & _SUBSAMPLED for flags in colored)
    spaces = [
        source.at(box.body, 10) for box in properties if box.kind == b"colr" and box.end - box.body >= 11
    ]
    matrices = [struct.unpack(">H", data[8:10])[0] for data in spaces if data[:4] == b"nclx"]
    return PixelCoding(is_full and _IDENTITY_MATRIX in matrices, _FULL if is_full else _USUAL)


def _inside(source: ByteSource, meta: Box) -> list[Box]:
    """Return the properties of all items."""
    return [
        found
        for box in walk(source, meta.body + 4, meta.end)
        if box.kind == b"iprp"
        for inner in walk(source, box.body, box.end)
        if inner.kind == b"ipco"
        for found in walk(source, inner.body, inner.end)
    ]
