"""Decoding of YOLOX outputs: one row for each grid cell. Ge et al. 2021, https://arxiv.org/abs/2107.08430."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Size = tuple[int, int]
Strides = tuple[int, ...]

# Strides of the grids, finest first: those of the paper, and those with one more grid.
STRIDES: tuple[Strides, ...] = ((8, 16, 32), (8, 16, 32, 64))
# Largest log size of a box in cells.
_MOST_LOG_SIZE = 12
# Decoded centers correlate with the grid more than this.
_FOLLOWING = 0.5


def is_yolox(layout: str | None) -> bool:
    """Return whether a layout of `workers.vision.detection_outputs` is YOLOX, decoded or not."""
    return layout in ("yolox", "yolox-decoded")


def find_strides(rows: int, size: Size) -> Strides | None:
    """Return the strides of the grids with `rows` cells over an input of `size` (width, height)."""
    for strides in STRIDES:
        if rows == sum((size[0] // stride) * (size[1] // stride) for stride in strides):
            return strides
    return None


def has_offsets(boxes: Floats, size: Size, strides: Strides) -> bool:
    """Return whether boxes (n, 4) are offsets and log sizes in cells, not centers and sizes in pixels.

    Centers in pixels correlate with the position of their cell, for any image. Offsets do not.
    """
    if not boxes.any() or np.abs(boxes[:, 2:]).max() > _MOST_LOG_SIZE:
        return False
    corners, steps = _lay_grid(size, strides)
    return all(_correlate(boxes[:, axis], (corners * steps)[:, axis]) < _FOLLOWING for axis in (0, 1))


def decode(boxes: Floats, cells: Sequence[int] | NDArray[np.intp], size: Size, strides: Strides) -> Floats:
    """Return boxes in pixels of the input: (m, 4), center, width and height.

    Args:
        boxes: (m, 4), offset from the corner of the cell and logarithms of the sides, in cells.
        cells: index of the cell of each box, over all grids.
    """
    corners, steps = _lay_grid(size, strides)
    with np.errstate(over="ignore"):
        sides = np.exp(boxes[:, 2:]) * steps[cells]
    return np.hstack([(boxes[:, :2] + corners[cells]) * steps[cells], sides])


@functools.lru_cache(maxsize=8)
def _lay_grid(size: Size, strides: Strides) -> tuple[Floats, Floats]:
    """Return the corner (n, 2: column, row) and the side in pixels (n, 1) of each cell, row by row."""
    corners, steps = [], []
    for stride in strides:
        columns, rows = size[0] // stride, size[1] // stride
        y, x = np.mgrid[0:rows, 0:columns]
        corners.append(np.stack([x.ravel(), y.ravel()], axis=1))
        steps.append(np.full((columns * rows, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(steps).astype(np.float32)


def _correlate(first: Floats, second: Floats) -> float:
    """Return the correlation of two lists of numbers; 0 if one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
