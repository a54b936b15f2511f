"""Mosaics: a picture made of many small pictures, or of plain blocks that hide what was there."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from workers.colour import Floats, to_oklab
from workers.grid import average_cells, count_cells, paint_cells
from workers.picture import Picture, PictureError
from workers.plugin import (
    Context,
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

Tiles = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_MOST_TILES = 2000
_MOST_TILE_BYTES = 64 * 1024 * 1024
_OWN_CROPS = 256
# Cells and tiles are compared part by part, so that a tile with an edge lands on an edge.
_PARTS = 3
_CHUNK = 4096


class MosaicParams(Params):
    mode: Literal["photo", "blocks"] = choice(
        "photo",
        labels={"photo": "Made of small pictures", "blocks": "Plain blocks"},
        title="Kind",
        help="Small pictures redraw the whole; plain blocks hide what lies under them.",
    )
    tiles: str | None = folder(
        title="Small pictures",
        help="A folder of yours to take the small pictures from. Without one, the picture is made of itself.",
        show_if={"mode": ["photo"]},
    )
    tile: int = slider(
        32,
        ge=12,
        le=256,
        title="Tile size",
        help="Side of one small picture.",
        unit="px",
        show_if={"mode": ["photo"]},
    )
    adaption: int = slider(
        50,
        ge=0,
        le=100,
        title="Colour adaption",
        help="How far each small picture takes the mean colour of what it stands for.",
        unit="%",
        show_if={"mode": ["photo"]},
    )
    radius: int = slider(
        2,
        ge=0,
        le=6,
        title="No repeats within",
        help="The same small picture is not used again this many tiles around. "
        "Fewer where the folder has too few pictures.",
        unit="tiles",
        show_if={"mode": ["photo"]},
    )
    block: int = slider(
        24,
        ge=4,
        le=256,
        title="Block size",
        help="Side of one block. To hide a face or a number plate, at least a fifth of its width.",
        unit="px",
        show_if={"mode": ["blocks"]},
    )
    area: Literal["whole", "box"] = choice(
        "whole",
        labels={"whole": "The whole picture", "box": "A box"},
        title="Where",
        help="Blocks over everything, or over one box only; outside it nothing changes.",
        show_if={"mode": ["blocks"]},
    )
    x: float = slider(
        0.25,
        ge=0,
        le=1,
        step=0.01,
        title="Box left",
        help="Left edge of the box, as a part of the picture’s width.",
        show_if={"mode": ["blocks"], "area": ["box"]},
    )
    y: float = slider(
        0.25,
        ge=0,
        le=1,
        step=0.01,
        title="Box top",
        help="Top edge of the box, as a part of the picture’s height.",
        show_if={"mode": ["blocks"], "area": ["box"]},
    )
    width: float = slider(
        0.5,
        ge=0,
        le=1,
        step=0.01,
        title="Box width",
        help="Width of the box, as a part of the picture’s width.",
        show_if={"mode": ["blocks"], "area": ["box"]},
    )
    height: float = slider(
        0.5,
        ge=0,
        le=1,
        step=0.01,
        title="Box height",
        help="Height of the box, as a part of the picture’s height.",
        show_if={"mode": ["blocks"], "area": ["box"]},
    )


class Mosaic(Operation[MosaicParams]):
    """Rebuilds a picture from small pictures, or hides parts of it under blocks."""

    key = "mosaic"
    title = "Mosaic"
    summary = "Rebuilds a picture from many small ones, or hides parts of it under plain blocks."
    description = (
        "**Made of small pictures:** each tile is the small picture that fits best, taken from a folder of "
        "yours or cut from the picture itself, and no tile repeats nearby. **Plain blocks:** the whole "
        "picture or a box is replaced by the mean colour of each block, so nothing finer remains."
    )
    tier = "advanced"
    version = 1
    Params = MosaicParams

    def run(self, picture: PictureView, params: MosaicParams, context: Context) -> Result:
        if params.mode == "photo":
            return Result(image=_compose(picture, params, context))
        cell = max(1.0, params.block * context.scale)
        alpha = picture.alpha()
        if params.area == "whole":
            return Result(image=_block_whole(picture, alpha, cell))
        return Result(image=_block_box(picture, alpha, _place_box(picture, params), cell))


# --- Plain blocks.


def _block_whole(picture: PictureView, alpha: Image.Image | None, cell: float) -> Image.Image:
    size = (picture.width, picture.height)
    columns, rows = count_cells(size, cell)
    blocked = paint_cells(average_cells(picture.reduced(columns, rows), size, cell), size, cell)
    if alpha is not None:
        blocked.putalpha(paint_cells(average_cells(alpha, size, cell), size, cell))
    return blocked


def _block_box(picture: PictureView, alpha: Image.Image | None, box: Box, cell: float) -> Image.Image:
    """Blocks inside `box` (left, top, right, bottom, pixels). Means see no pixel from outside it."""
    blocked = picture.rgb(flat=alpha is None).copy()
    _cover(blocked, box, cell)
    if alpha is not None:
        alpha = alpha.copy()
        _cover(alpha, box, cell)
        blocked.putalpha(alpha)
    return blocked


def _cover(image: Image.Image, box: Box, cell: float) -> None:
    part = image.crop(box)
    image.paste(paint_cells(average_cells(part, part.size, cell), part.size, cell), box)


def _place_box(picture: PictureView, params: MosaicParams) -> Box:
    """Whole pixels that cover the box: a part of a pixel is hidden with the rest."""
    left, top = math.floor(params.x * picture.width), math.floor(params.y * picture.height)
    right = min(picture.width, math.ceil((params.x + params.width) * picture.width))
    bottom = min(picture.height, math.ceil((params.y + params.height) * picture.height))
    if left >= right or top >= bottom:
        raise OperationError("The box lies outside the picture or is empty.")
    return left, top, right, bottom


# --- Made of small pictures.


def _compose(picture: PictureView, params: MosaicParams, context: Context) -> Image.Image:
    size = (picture.width, picture.height)
    cell = max(1.0, params.tile * context.scale)
    side = max(_PARTS, math.ceil(cell))
    tiles = _get_tiles(picture, context, cell, side)
    columns, rows = count_cells(size, cell)
    wanted = _read_parts(picture, size, cell, columns, rows)
    chosen = choose_tiles(_describe(wanted), _describe(_shrink_tiles(tiles)), (rows, columns), params.radius)
    laid = _lay(tiles, chosen)
    if params.adaption:
        cell_means = wanted.mean(axis=(1, 2)).reshape(rows, columns, 3)
        gap = (cell_means - tiles.mean(axis=(1, 2))[chosen]) * (params.adaption / 100)
        laid = _shift_colours(laid, np.rint(gap).astype(np.int16))
    # In a preview a tile is no whole number of pixels: it was laid larger, and is brought to size here.
    if side == cell:
        return laid.crop((0, 0, *size))
    covered = (0, 0, size[0] * side / cell, size[1] * side / cell)
    return laid.resize(size, Image.Resampling.BOX, box=covered)


def _get_tiles(picture: PictureView, context: Context, cell: float, side: int) -> Tiles:
    """Small pictures (n, side, side, 3)."""
    chosen = context.pictures.get("tiles")
    if chosen is None:
        return cut_tiles(picture, cell, side)
    return context.keep(
        ("mosaic", chosen.key, side), lambda: load_tiles(chosen, side), lambda made: made.nbytes
    )


def load_tiles(pictures: PictureSet, side: int) -> Tiles:
    """The middle square of each picture. At most 2,000, evenly spread; unreadable ones are left out."""
    most = min(_MOST_TILES, _MOST_TILE_BYTES // (3 * side * side))
    step = max(1.0, len(pictures) / most)
    squares = [_load_square(pictures.open(int(i * step)), side) for i in range(min(most, len(pictures)))]
    readable = [square for square in squares if square is not None]
    if not readable:
        raise OperationError("The folder of small pictures holds no picture we can read.")
    return np.stack(readable)


def _load_square(data: bytes, side: int) -> Tiles | None:
    try:
        picture = Picture.open(data)
        image = picture.reduced(side, side)
    except PictureError:
        return None
    edge = min(image.size)
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    return np.asarray(
        image.resize((side, side), Image.Resampling.BOX, box=(left, top, left + edge, top + edge))
    )


def cut_tiles(picture: PictureView, cell: float, side: int) -> Tiles:
    """Parts of the picture itself, reduced, as many as fit of about 256; and their mirror images."""
    ratio = picture.width / picture.height
    columns = min(round(math.sqrt(_OWN_CROPS * ratio)), int(picture.width / (1.5 * cell)))
    rows = min(round(math.sqrt(_OWN_CROPS / ratio)), int(picture.height / (1.5 * cell)))
    columns, rows = max(1, columns), max(1, rows)
    # A strip one pixel high is 256 crops long, no more.
    columns, rows = min(columns, _OWN_CROPS), min(rows, _OWN_CROPS)
    reduced = picture.reduced(columns * side, rows * side)
    sheet = np.asarray(reduced.resize((columns * side, rows * side), Image.Resampling.BOX))
    crops = sheet.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    return np.concatenate([crops, crops[:, :, ::-1]])


def _read_parts(picture: PictureView, size: tuple[int, int], cell: float, columns: int, rows: int) -> Tiles:
    """Means of the parts of each cell, (cells, 3, 3, 3), row by row."""
    parts = average_cells(picture.reduced(columns * _PARTS, rows * _PARTS), size, cell / _PARTS)
    # Where the picture ends within a cell, its last parts may be missing.
    pixels = np.asarray(parts)[: rows * _PARTS, : columns * _PARTS]
    missing = (rows * _PARTS - pixels.shape[0], columns * _PARTS - pixels.shape[1])
    pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    shaped = pixels.reshape(rows, _PARTS, columns, _PARTS, 3).swapaxes(1, 2)
    return shaped.reshape(-1, _PARTS, _PARTS, 3)


def _shrink_tiles(tiles: Tiles) -> Tiles:
    """Means of the parts of each tile, (n, 3, 3, 3)."""
    edges = [round(part * tiles.shape[1] / _PARTS) for part in range(_PARTS)]
    sums = np.add.reduceat(
        np.add.reduceat(tiles, edges, axis=1, dtype=np.uint32), edges, axis=2, dtype=np.uint32
    )
    lengths = np.diff([*edges, tiles.shape[1]])
    areas = lengths[:, None] * lengths[None, :]
    return np.asarray(sums // areas[None, :, :, None], dtype=np.uint8)


def _describe(parts: Tiles) -> Floats:
    """What is compared: the parts' colours in OKLab, (n, 27)."""
    return to_oklab(parts).reshape(len(parts), -1)


def choose_tiles(cells: Floats, tiles: Floats, shape: tuple[int, int], radius: int) -> NDArray[np.intp]:
    """For each cell the nearest tile that none of the cells within `radius` has: (rows, columns).

    `cells` (rows * columns, d) and `tiles` (n, d) are descriptions. The radius counts in all eight
    directions, and shrinks where there are too few tiles to keep it. Cells further apart than it cannot
    disturb each other, so they are decided together, one class of such cells after another.
    """
    radius = min(radius, (math.isqrt(len(tiles)) - 1) // 2)
    candidates = _rank_tiles(cells, tiles, (2 * radius + 1) ** 2).reshape(*shape, -1)
    placed = np.full((shape[0] + 2 * radius, shape[1] + 2 * radius), -1, dtype=np.intp)
    inside = placed[radius : radius + shape[0], radius : radius + shape[1]]
    around = np.lib.stride_tricks.sliding_window_view(placed, (2 * radius + 1,) * 2)
    step = radius + 1
    for first in np.ndindex(step, step):
        part = (slice(first[0], None, step), slice(first[1], None, step))
        options = candidates[part]
        taken = around[part].reshape(*options.shape[:2], -1)
        blocked = (options[..., :, None] == taken[..., None, :]).any(axis=-1)
        best = np.argmin(blocked, axis=-1)
        inside[part] = np.take_along_axis(options, best[..., None], axis=-1)[..., 0]
    return inside.copy()


def _rank_tiles(cells: Floats, tiles: Floats, most: int) -> NDArray[np.intp]:
    """For each cell its `most` nearest tiles, nearest first."""
    ranked = np.empty((len(cells), most), dtype=np.intp)
    half_norms = (tiles**2).sum(axis=1) / 2
    for start in range(0, len(cells), _CHUNK):
        part = slice(start, start + _CHUNK)
        distance = half_norms - cells[part] @ tiles.T
        nearest = np.argpartition(distance, most - 1, axis=1)[:, :most]
        order = np.argsort(np.take_along_axis(distance, nearest, axis=1), axis=1, kind="stable")
        ranked[part] = np.take_along_axis(nearest, order, axis=1)
    return ranked


def _lay(tiles: Tiles, chosen: NDArray[np.intp]) -> Image.Image:
    rows, columns = chosen.shape
    side = tiles.shape[1]
    laid = tiles[chosen].swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    return Image.fromarray(laid)


def _shift_colours(image: Image.Image, shift: NDArray[np.int16]) -> Image.Image:
    """Add to each cell's colours, saturating. Pillow's C does both signs faster than wide integers would."""
    for sign, apply in ((1, ImageChops.add), (-1, ImageChops.subtract)):
        amount = Image.fromarray(np.clip(sign * shift, 0, 255).astype(np.uint8))
        image = apply(image, amount.resize(image.size, Image.Resampling.NEAREST))
    return image
