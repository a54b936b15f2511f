"""TIFFs of any kind of samples for tests, written from arrays. TIFF 6.0."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tests.workers.tiff.tiffs import Tag, tiff

LZW, DEFLATE, PACKBITS, LZMA, ZSTD = 5, 8, 32773, 34925, 50000
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
HORIZONTAL, FLOATING_POINT = 2, 3


def write_samples(
    values: np.ndarray,
    photometric: int,
    bits: int,
    *,
    kind: int = UNSIGNED,
    compression: int = 1,
    is_planar: bool = False,
    order: str = "<",
    big: bool = False,
    tile: tuple[int, int] | None = None,
    rows: int = 0,
    extra: Sequence[int] = (),
    predictor: int = 1,
    is_bit_reversed: bool = False,
    more: Sequence[Tag] = (),
) -> bytes:
    """Return a TIFF of an array of the shape (height, width, samples).

    Args:
        values: whole numbers, or floating-point ones with `kind=FLOAT`.
        tile: width and height of tiles; None: strips of `rows` rows (0: one strip).
        more: further tags.
    """
    height, width, samples = values.shape
    size = tile or (width, rows or height)
    chunks = [
        _pack(chunk, bits, kind, compression, order, predictor, is_bit_reversed)
        for plane in (np.split(values, samples, axis=2) if is_planar else [values])
        for chunk in _split(plane, size, is_padded=tile is not None)
    ]
    start, places, lengths = 16 if big else 8, [], []
    for chunk in chunks:
        places.append(start)
        lengths.append(len(chunk))
        start += len(chunk)
    tags = [
        _longs(256, [width], order),
        _longs(257, [height], order),
        _shorts(258, [bits] * samples, order),
        _shorts(259, [compression], order),
        _shorts(262, [photometric], order),
        _longs(324 if tile else 273, places, order),
        _shorts(277, [samples], order),
        _longs(325 if tile else 279, lengths, order),
        _shorts(284, [2 if is_planar else 1], order),
        _shorts(266, [2 if is_bit_reversed else 1], order),
        _shorts(339, [kind] * samples, order),
    ]
    tags += [_longs(322, [size[0]], order), _longs(323, [size[1]], order)] if tile else []
    tags += [] if tile else [_longs(278, [size[1]], order)]
    tags += [_shorts(317, [predictor], order)] if predictor > 1 else []
    tags += [_shorts(338, list(extra), order)] if extra else []
    return tiff(sorted([*tags, *more]), b"".join(chunks), order=order, big=big)


def _shorts(tag: int, numbers: list[int], order: str) -> Tag:
    return tag, 3, len(numbers), np.array(numbers, f"{order}u2").tobytes()


def _longs(tag: int, numbers: list[int], order: str) -> Tag:
    return tag, 4, len(numbers), np.array(numbers, f"{order}u4").tobytes()


def palette_tag(colors: np.ndarray, order: str = "<") -> Tag:
    """Return the tag of a palette of the shape (colors, 3), of 16-bit numbers."""
    return _shorts(320, [int(number) for number in colors.T.ravel()], order)


def _split(values: np.ndarray, size: tuple[int, int], *, is_padded: bool) -> Iterator[np.ndarray]:
    for top in range(0, values.shape[0], size[1]):
        for left in range(0, values.shape[1], size[0]):
            part = values[top : top + size[1], left : left + size[0]]
            if is_padded:
                lacking = (size[1] - part.shape[0], size[0] - part.shape[1])
                part = np.pad(part, ((0, lacking[0]), (0, lacking[1]), (0, 0)), mode="edge")
            yield part


def _pack(
    part: np.ndarray,
    bits: int,
    kind: int,
    compression: int,
    order: str,
    predictor: int,
    is_bit_reversed: bool,
) -> bytes:
    rows = _to_rows(part, bits, kind, order, predictor)
    if is_bit_reversed and compression == 1:
        rows = np.packbits(np.unpackbits(rows, axis=1).reshape(-1, 8)[:, ::-1], axis=1).reshape(rows.shape)
    packed = compress(rows, compression)
    if is_bit_reversed and compression != 1:
        packed = bytes(int(f"{byte:08b}"[::-1], 2) for byte in packed)
    return packed


def _to_rows(part: np.ndarray, bits: int, kind: int, order: str, predictor: int) -> np.ndarray:
    """Return the bytes of each row."""
    height = part.shape[0]
    if bits not in (8, 16, 32, 64):
        flat = part.reshape(height, -1).astype(np.uint32)
        places = np.arange(bits - 1, -1, -1, dtype=np.uint32)
        spread = (flat[..., None] >> places & 1).astype(np.uint8)
        return np.packbits(spread.reshape(height, -1), axis=1)
    letter = "f" if kind == FLOAT else "i" if kind == SIGNED else "u"
    numbers = np.ascontiguousarray(part.astype(f"{letter}{bits // 8}"))
    if predictor == FLOATING_POINT:
        planes = numbers.astype(f">f{bits // 8}").view(np.uint8).reshape(height, -1, bits // 8)
        pixels = np.swapaxes(planes, 1, 2).reshape(height, -1, part.shape[2])
        return np.diff(pixels, axis=1, prepend=np.zeros_like(pixels[:, :1])).reshape(height, -1)
    whole = numbers.view(f"u{bits // 8}")
    if predictor == HORIZONTAL:
        whole = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))
    return np.ascontiguousarray(whole.astype(f"{order}u{bits // 8}")).view(np.uint8).reshape(height, -1)


def compress(rows: np.ndarray, compression: int) -> bytes:
    """Return rows of bytes as one strip. What Python has no packer for, Pillow packs as 8-bit gray."""
    if compression in (1, DEFLATE, 32946):
        return rows.tobytes() if compression == 1 else zlib.compress(rows.tobytes())
    if compression == LZMA:
        return lzma.compress(rows.tobytes(), check=lzma.CHECK_NONE)
    name = {LZW: "tiff_lzw", PACKBITS: "packbits", ZSTD: "zstd"}[compression]
    target = io.BytesIO()
    Image.fromarray(rows).save(target, "TIFF", compression=name, tiffinfo={278: rows.shape[0]})
    with Image.open(target) as image:
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        (place,), (length,) = tags[273], tags[279]
    return target.getvalue()[place : place + length]
