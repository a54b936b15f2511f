"""Grids of square cells: average each cell of an image, paint cells at full size, Bayer matrices."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.plugin import PictureView

Size = tuple[int, int]


def count_cells(size: Size, cell: float) -> Size:
    """Return columns and rows of cells of `cell` pixels that cover `size`, with partial cells at the end."""
    # The tolerance keeps 1024 / 25.6 at 40 cells despite rounding errors.
    columns, rows = (max(1, math.ceil(side / cell - 1e-6)) for side in size)
    return columns, rows


def average_picture(picture: PictureView, cell: float, samples: int = 4) -> Image.Image:
    """Return an RGB image with one pixel for each cell, its mean. Decodes at a reduced size if possible.

    Exact if 2, 4 or 8 divides `cell` (pixels), else from at least `samples` pixels along a cell's side. In
    cells at the image's edge, the last pixels may have more weight than others.
    """
    size = (picture.width, picture.height)
    dividing = [factor for factor in (8, 4, 2) if cell % factor == 0]
    small_enough = [factor for factor in (8, 4, 2) if factor * samples <= cell]
    factor = max(dividing or small_enough, default=1)
    return average_cells(picture.reduced_by(factor), size, cell, factor)


def average_cells(image: Image.Image, size: Size, cell: float, factor: int = 1) -> Image.Image:
    """Return one pixel for each cell, its mean. `image` is an image of `size` pixels, reduced by `factor`."""
    columns, rows = count_cells(size, cell)
    step = cell / factor
    if step == int(step):
        return image.reduce(int(step)) if step > 1 else image
    covered = _extend(image, math.ceil(columns * step), math.ceil(rows * step))
    return covered.resize((columns, rows), Image.Resampling.BOX, box=(0, 0, columns * step, rows * step))


def paint_cells(cells: Image.Image, size: Size, cell: float) -> Image.Image:
    """Return each pixel of `cells` as a square of `cell` pixels with hard edges, cropped to `size`."""
    box = (0, 0, min(cells.width, size[0] / cell), min(cells.height, size[1] / cell))
    return cells.resize(size, Image.Resampling.NEAREST, box=box)


def build_bayer(side: int) -> NDArray[np.float32]:
    """Return the ordered-dither matrix of `side` (a power of two), thresholds 0..1 (Bayer 1973)."""
    matrix = np.zeros((1, 1))
    while len(matrix) < side:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return ((matrix + 0.5) / side**2).astype(np.float32)


def tile_over(matrix: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Repeat a square matrix to cover (rows, columns)."""
    side = len(matrix)
    return np.tile(matrix, (-(-rows // side), -(-columns // side)))[:rows, :columns]


def _extend(image: Image.Image, width: int, height: int) -> Image.Image:
    """Repeat the last column and row until `width` x `height`."""
    right, below = max(0, width - image.width), max(0, height - image.height)
    if not right and not below:
        return image
    pixels = np.asarray(image)
    widths = [(0, below), (0, right)] + [(0, 0)] * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, widths, mode="edge"))
