"""Photo mosaics, and pixelation of an image or of a box in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.color.oklab import Bytes, Floats, to_oklab
from workers.media.grid import average_cells, average_picture, count_cells, paint_cells
from workers.media.picture import Picture, PictureError
from workers.plugin import (
    Context,
    Kept,
    Operation,
    OperationError,
    Params,
    PictureSet,
    PictureView,
    Result,
    choice,
    folder,
    slider,
)

Box = tuple[int, int, int, int]

_MAX_TILES = 2000
_MAX_TILE_BYTES = 64 * 1024 * 1024
_OWN_CROPS = 256
# Cells and tiles are compared in 3 x 3 parts, so that edges match edges.
_PARTS = 3
_CHUNK = 4096


class MosaicParams(Params):
    mode: Literal["photo", "blocks"] = choice(
        "photo",
        labels={"photo": "Photo mosaic", "blocks": "Pixelate"},
        title="Mode",
        help="Rebuild the image from small images, or hide details under plain blocks.",
    )
    tiles: str | None = folder(
        title="Tile images",
        help="Folder with images for the tiles. If empty, tiles are cut from the image itself.",
        show_if={"mode": ["photo"]},
    )
    tile: int = slider(
        32,
        ge=12,
        le=256,
        title="Tile size",
        help="Side length of a tile.",
        unit="px",
        show_if={"mode": ["photo"]},
    )
    color_match: int = slider(
        50,
        ge=0,
        le=100,
        title="Color match",
        help="How much the color of each tile is shifted to the color of the image below it.",
        unit="%",
        show_if={"mode": ["photo"]},
    )
    radius: int = slider(
        2,
        ge=0,
        le=6,
        title="No repeats within",
        help="Minimum distance between two uses of a tile. It is reduced if the folder has too few images.",
        unit="tiles",
        show_if={"mode": ["photo"]},
    )
    block: int = slider(
        24,
        ge=4,
        le=256,
        title="Block size",
        help="Side length of a block. To hide a face or a license plate, use at least a fifth of its width.",
        unit="px",
        show_if={"mode": ["blocks"]},
    )
    area: Literal["whole", "box"] = choice(
        "whole",
        labels={"whole": "Whole image", "box": "Box"},
        title="Area",
        help="Pixelate the whole image, or only a box.",
        show_if={"mode": ["blocks"]},
    )
    x: float = slider(
        0.25,
        ge=0,
        le=0.99,
        step=0.01,
        title="Box left",
        help="Left edge of the box, as a fraction of the image width.",
        show_if={"mode": ["blocks"], "area": ["box"]},
    )
    y: float = slider(
        0.25,
        ge=0,
        le=0.99,
        step=0.01,
        title="Box top",
        help="Top edge of the box, as a fraction of the image height.",
        show_if={"mode": ["blocks"], "area": ["box"]},
    )
    width: float = slider(
        0.5,
        ge=0.01,
        le=1,
        step=0.01,
        title="Box width",
        help="Width of the box, as a fraction of the image width.",
        show_if={"mode": ["blocks"], "area": ["box"]},
    )
    height: float = slider(
        0.5,
        ge=0.01,
        le=1,
        step=0.01,
        title="Box height",
        help="Height of the box, as a fraction of the image height.",
        show_if={"mode": ["blocks"], "area": ["box"]},
    )


class Mosaic(Operation[MosaicParams]):
    """Rebuilds an image from small images, or pixelates it."""

    key = "mosaic"
    title = "Mosaic"
    summary = "Rebuild an image from many small images, or pixelate parts of it."
    description = (
        "**Photo mosaic:** each tile is the best matching image from your folder, or a part of the image "
        "itself. No tile repeats nearby. **Pixelate:** the whole image or a box is replaced by blocks of "
        "their mean color, so finer details cannot be recovered."
    )
    tier = "advanced"
    version = 1
    Params = MosaicParams

    def keeps(self, params: MosaicParams, facts: Mapping[str, Any]) -> Kept:
        return "places"

    def run(self, picture: PictureView, params: MosaicParams, context: Context) -> Result:
        if params.mode == "photo":
            return Result(image=_compose(picture, params, context))
        cell = max(1.0, params.block * context.scale)
        alpha = picture.alpha()
        if params.area == "whole":
            return Result(image=_pixelate_whole(picture, alpha, cell))
        return Result(image=_pixelate_box(picture, alpha, _box_in_pixels(picture, params), cell))


def _pixelate_whole(picture: PictureView, alpha: Image.Image | None, cell: float) -> Image.Image:
    size = (picture.width, picture.height)
    pixelated = paint_cells(average_picture(picture, cell), size, cell)
    if alpha is not None:
        pixelated.putalpha(paint_cells(average_cells(alpha, size, cell), size, cell))
    return pixelated


def _pixelate_box(picture: PictureView, alpha: Image.Image | None, box: Box, cell: float) -> Image.Image:
    """Pixelate inside `box` (left, top, right, bottom, in pixels). Only pixels inside it are averaged."""
    pixelated = picture.rgb(flat=alpha is None).copy()
    _cover(pixelated, box, cell)
    if alpha is not None:
        alpha = alpha.copy()
        _cover(alpha, box, cell)
        pixelated.putalpha(alpha)
    return pixelated


def _box_in_pixels(picture: PictureView, params: MosaicParams) -> Box:
    """Return the box in whole pixels, rounded outwards. Raises OperationError if it is empty."""
    # The tolerance absorbs rounding errors: (0.25 + 0.33) of 200 is 116, not 117.
    left, top = (
        math.floor(side * part + 1e-6)
        for side, part in ((picture.width, params.x), (picture.height, params.y))
    )
    right = min(picture.width, math.ceil((params.x + params.width) * picture.width - 1e-6))
    bottom = min(picture.height, math.ceil((params.y + params.height) * picture.height - 1e-6))
    if left >= right or top >= bottom:
        raise OperationError("The box is outside the image or empty.")
    return left, top, right, bottom


@dataclass(frozen=True)
class TileSet:
    """Tiles (n, side, side, 3), and the mean colors of their 3 x 3 parts (n, 3, 3, 3)."""

    pixels: Bytes
    parts: Bytes


def _compose(picture: PictureView, params: MosaicParams, context: Context) -> Image.Image:
    size = (picture.width, picture.height)
    cell = max(1.0, params.tile * context.scale)
    side = max(_PARTS, math.ceil(cell))
    tiles = _get_tiles(picture, context, cell, side)
    columns, rows = count_cells(size, cell)
    wanted = _read_parts(picture, cell, columns, rows)
    chosen = choose_tiles(_describe(wanted), _describe(tiles.parts), (rows, columns), params.radius)
    mosaic = _assemble(tiles.pixels, chosen)
    if params.color_match:
        gap = wanted.mean(axis=(1, 2)).reshape(rows, columns, 3) - tiles.parts.mean(axis=(1, 2))[chosen]
        _shift_colors(mosaic, np.rint(gap * (params.color_match / 100)).astype(np.int16))
    pixels = mosaic.reshape(rows * side, columns * side, 3)
    if side == cell:
        return Image.fromarray(pixels[: size[1], : size[0]])
    # In previews the cell size is not a whole number. Tiles are placed larger, then reduced.
    covered = (0, 0, size[0] * side / cell, size[1] * side / cell)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BOX, box=covered)


def load_tiles(pictures: PictureSet, side: int) -> TileSet:
    """Return the center square of each image: at most 2,000, evenly spaced. Unreadable files are skipped."""
    limit = min(_MAX_TILES, _MAX_TILE_BYTES // (3 * side * side))
    step = max(1.0, len(pictures) / limit)
    squares = [_load_square(pictures.open(int(i * step)), side) for i in range(min(limit, len(pictures)))]
    readable = [square for square in squares if square is not None]
    if not readable:
        raise OperationError("The folder of tile images has no readable image.")
    return _build_set(np.stack(readable))


def cut_tiles(picture: PictureView, cell: float, side: int) -> TileSet:
    """Cut up to about 256 tiles from the image itself, and add their mirror images."""
    columns = _count_crops(picture.width, picture.height, cell)
    rows = _count_crops(picture.height, picture.width, cell)
    reduced = picture.reduced(columns * side, rows * side)
    sheet = np.asarray(reduced.resize((columns * side, rows * side), Image.Resampling.BOX))
    crops = sheet.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    return _build_set(np.concatenate([crops, crops[:, :, ::-1]]))


def choose_tiles(cells: Floats, tiles: Floats, shape: tuple[int, int], radius: int) -> NDArray[np.intp]:
    """Return the index of the best tile for each cell, without repeats within `radius`: (rows, columns).

    `cells` (rows * columns, d) and `tiles` (n, d) are descriptors. The radius counts in all eight
    directions. It is reduced if there are too few tiles. Cells further apart than the radius are
    independent, so they are processed together.
    """
    radius = min(radius, (math.isqrt(len(tiles)) - 1) // 2)
    wanted = cells.reshape(*shape, -1)
    # Marks cells without a tile yet: one past the last index.
    unset = len(tiles)
    placed = np.full((shape[0] + 2 * radius, shape[1] + 2 * radius), unset, dtype=np.intp)
    inside = placed[radius : radius + shape[0], radius : radius + shape[1]]
    around = np.lib.stride_tricks.sliding_window_view(placed, (2 * radius + 1,) * 2)
    step = radius + 1
    for row, column in np.ndindex(min(step, shape[0]), min(step, shape[1])):
        part = (slice(row, None, step), slice(column, None, step))
        taken = around[part].reshape(inside[part].size, -1)
        best = _find_free(wanted[part].reshape(len(taken), -1), tiles, taken)
        inside[part] = best.reshape(inside[part].shape)
    return inside.copy()


def _cover(image: Image.Image, box: Box, cell: float) -> None:
    part = image.crop(box)
    image.paste(paint_cells(average_cells(part, part.size, cell), part.size, cell), box)


def _get_tiles(picture: PictureView, context: Context, cell: float, side: int) -> TileSet:
    chosen = context.pictures.get("tiles")
    if chosen is None:
        return cut_tiles(picture, cell, side)
    return context.keep(
        ("mosaic", chosen.key, side),
        lambda: load_tiles(chosen, side),
        lambda tile_set: tile_set.pixels.nbytes + tile_set.parts.nbytes,
    )


def _load_square(data: bytes, side: int) -> Bytes | None:
    try:
        image = Picture.open(data).reduced(side, side)
    except PictureError:
        return None
    edge = min(image.size)
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    box = (left, top, left + edge, top + edge)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX, box=box))


def _count_crops(length: int, other: int, cell: float) -> int:
    """Return the number of crops along `length`. Crops are nearly square and larger than a cell."""
    square = round(math.sqrt(_OWN_CROPS * length / other))
    return max(1, min(square, int(length / (1.5 * cell)), _OWN_CROPS))


def _build_set(pixels: Bytes) -> TileSet:
    """Return a tile set with the mean colors of the parts."""
    edges = [round(part * pixels.shape[1] / _PARTS) for part in range(_PARTS)]
    across = np.add.reduceat(pixels, edges, axis=1, dtype=np.uint32)
    sums = np.add.reduceat(across, edges, axis=2, dtype=np.uint32)
    lengths = np.diff([*edges, pixels.shape[1]])
    areas = lengths[:, None] * lengths[None, :]
    return TileSet(pixels, (sums // areas[None, :, :, None]).astype(np.uint8))


def _read_parts(picture: PictureView, cell: float, columns: int, rows: int) -> Bytes:
    """Return the mean colors of the parts of each cell, (cells, 3, 3, 3), row by row."""
    parts = average_picture(picture, cell / _PARTS, samples=2)
    # The last cells may extend beyond the image, so parts may be missing.
    pixels = np.asarray(parts)[: rows * _PARTS, : columns * _PARTS]
    missing = (rows * _PARTS - pixels.shape[0], columns * _PARTS - pixels.shape[1])
    pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    shaped = pixels.reshape(rows, _PARTS, columns, _PARTS, 3).swapaxes(1, 2)
    return shaped.reshape(-1, _PARTS, _PARTS, 3)


def _describe(parts: Bytes) -> Floats:
    """Return the descriptors that are compared: the colors of the parts in OKLab, (n, 27)."""
    return to_oklab(parts).reshape(len(parts), -1)


def _find_free(cells: Floats, tiles: Floats, taken: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return, for each cell (n, d), the nearest tile that is not in its row of `taken` (n, t)."""
    best = np.empty(len(cells), dtype=np.intp)
    half_norms = (tiles**2).sum(axis=1) / 2
    for start in range(0, len(cells), _CHUNK):
        part = slice(start, start + _CHUNK)
        distance = np.full((len(cells[part]), len(tiles) + 1), np.inf, dtype=np.float32)
        np.subtract(half_norms, cells[part] @ tiles.T, out=distance[:, :-1])
        np.put_along_axis(distance, taken[part], np.inf, axis=1)
        best[part] = distance.argmin(axis=1)
    return best


def _assemble(pixels: Bytes, chosen: NDArray[np.intp]) -> Bytes:
    """Return the chosen tiles side by side: (rows, side, columns * side * 3)."""
    rows, columns = chosen.shape
    side = pixels.shape[1]
    return pixels[chosen].swapaxes(1, 2).reshape(rows, side, columns * side * 3)


def _shift_colors(mosaic: Bytes, shift: NDArray[np.int16]) -> None:
    """Add (rows, columns, 3) to the colors of each cell, in place, saturating.

    Stays in 8 bits, because numpy processes 32 bytes at a time: clip first, then add.
    """
    side = mosaic.shape[1]
    up, down = (
        np.repeat(np.clip(part, 0, 255).astype(np.uint8), side, axis=1).reshape(len(mosaic), 1, -1)
        for part in (shift, -shift)
    )
    np.minimum(mosaic, 255 - up, out=mosaic)
    mosaic += up
    np.maximum(mosaic, down, out=mosaic)
    mosaic -= down
