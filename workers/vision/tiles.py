"""Tiled inference on large images: overlapping tiles, blended without visible seams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.inference.errors import check_finite

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Span = tuple[int, int]
# From (1, channels, h, w) to (1, channels, h · scale, w · scale), both 0 to 1.
Forward = Callable[[Floats], Floats]

# Reflection padding inside a network needs a few pixels.
LEAST_SIDE = 16
_LARGEST_SIDE = 512


@dataclass(frozen=True)
class Tiling:
    """Tile geometry. All lengths are in pixels of the input and multiples of `stride`.

    Attributes:
        side: side of a tile.
        margin: border of a tile that is discarded.
        fade: width of the blend between two tiles, beyond both margins.
        stride: tiles begin and end at multiples of it.
        scale: upscaling factor of the output.
    """

    side: int
    margin: int
    fade: int
    stride: int = 1
    scale: int = 1

    @property
    def overlap(self) -> int:
        return 2 * self.margin + self.fade


def plan_tiles(*, margin: int, stride: int, scale: int, pixel_bytes: int, budget: int) -> Tiling:
    """Return the geometry of tiles that take about `budget` bytes, at `pixel_bytes` per pixel.

    Whatever the budget, at most half of a tile is overlap.
    """
    margin, fade = _round_up(margin, stride), _round_up(8, stride)
    affordable = min(_LARGEST_SIDE, math.isqrt(budget // max(1, pixel_bytes))) // stride * stride
    least = max(2 * (2 * margin + fade), _round_up(LEAST_SIDE, stride))
    return Tiling(max(affordable, least), margin, fade, stride, scale)


def run_tiled(pixels: Bytes, forward: Forward, tiling: Tiling) -> Bytes:
    """Run `pixels` (h, w, channels) through a network, tile by tile: (h · scale, w · scale, channels).

    Only one row of tiles is in memory, besides the result.
    """
    height, width = pixels.shape[:2]
    padded = pad_to(pixels, tiling.stride)
    rows, columns = (cut(length, tiling) for length in padded.shape[:2])
    bands = (_run_band(padded[top:bottom], columns, forward, tiling) for top, bottom in rows)
    output = _join(bands, rows, padded.shape[0], tiling, axis=0)
    return output[: height * tiling.scale, : width * tiling.scale]


def pad_to(pixels: Bytes, stride: int) -> Bytes:
    """Pad right and bottom by reflection, to multiples of `stride` and at least `LEAST_SIDE`."""
    height, width = pixels.shape[:2]
    wanted = [_round_up(max(side, LEAST_SIDE), stride) for side in (height, width)]
    if wanted == [height, width]:
        return pixels
    return np.pad(pixels, ((0, wanted[0] - height), (0, wanted[1] - width), (0, 0)), mode="symmetric")


def cut(length: int, tiling: Tiling) -> list[Span]:
    """Return start and end of the tiles along a side. All have the same length; the last is moved back."""
    side = min(tiling.side, length)
    step = max(tiling.stride, side - tiling.overlap)
    starts = [*range(0, length - side, step), length - side]
    return [(start, start + side) for start in starts]


def to_input(pixels: Bytes) -> Floats:
    """Convert bytes (h, w, channels) to network input (1, channels, h, w), 0 to 1."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    return planes.astype(np.float32) / np.float32(255)


def to_bytes(output: Floats) -> Bytes:
    """Convert network output (1, channels, h, w), 0 to 1, to bytes (h, w, channels).

    Raises ModelFault if it is not finite.
    """
    check_finite(output[0])
    scaled = np.rint(np.clip(output[0], 0, 1) * 255)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0))


def _run_band(band: Bytes, columns: list[Span], forward: Forward, tiling: Tiling) -> Bytes:
    tiles = (to_bytes(forward(to_input(band[:, left:right]))) for left, right in columns)
    return _join(tiles, columns, band.shape[1], tiling, axis=1)


def _join(pieces: Iterator[Bytes], spans: list[Span], length: int, tiling: Tiling, *, axis: int) -> Bytes:
    """Join overlapping pieces along an axis, with a linear blend inside the margins."""
    if len(spans) == 1:
        return next(pieces)
    scale = tiling.scale
    whole: Bytes | None = None
    for index, (piece, (start, end)) in enumerate(zip(pieces, spans, strict=True)):
        if whole is None:
            shape = list(piece.shape)
            shape[axis] = length * scale
            whole = np.empty(shape, np.uint8)
        shared = 0 if index == 0 else (spans[index - 1][1] - start) * scale
        place = [slice(None)] * 3
        place[axis] = slice(start * scale, start * scale + shared)
        inside = [slice(None)] * 3
        inside[axis] = slice(0, shared)
        weights = _fade(shared, tiling.margin * scale).reshape([-1 if i == axis else 1 for i in range(3)])
        before = whole[tuple(place)].astype(np.float32)
        mixed = before + weights * (piece[tuple(inside)] - before)
        whole[tuple(place)] = np.rint(mixed).astype(np.uint8)
        place[axis], inside[axis] = slice(start * scale + shared, end * scale), slice(shared, None)
        whole[tuple(place)] = piece[tuple(inside)]
    assert whole is not None
    return whole


def _fade(shared: int, margin: int) -> Floats:
    """Return the blend weights of the second piece over the overlap: 0, then rising, then 1."""
    between = max(1, shared - 2 * margin)
    return np.clip((np.arange(shared) - margin + 0.5) / between, 0, 1).astype(np.float32)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
