"""Pixel art: large square pixels in few colors, dithered or outlined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.color.oklab import Bytes, Floats, cluster, find_nearest, from_oklab, to_oklab
from workers.color.palettes import read_palette
from workers.media.grid import average_cells, average_picture, build_bayer, paint_cells, tile_over
from workers.plugin import Context, Kept, Operation, Params, PictureView, Result, choice, slider, toggle

_SAMPLE = 4096
_OPAQUE = 128
# Differences in OKLab lightness between neighbors: no outline below the first, full outline above the second.
_EDGE_STARTS, _EDGE_FULL = 0.06, 0.20


class PixelArtParams(Params):
    block: int = slider(
        12, ge=2, le=128, title="Pixel size", help="Side length of a pixel block in the result.", unit="px"
    )
    palette: Literal["adaptive", "pico8", "gameboy", "cga", "ega", "c64", "spectrum", "nes", "gray4"] = (
        choice(
            "adaptive",
            labels={
                "adaptive": "Adaptive",
                "pico8": "PICO-8 (16 colors)",
                "gameboy": "Game Boy (4 greens)",
                "cga": "CGA (4 colors)",
                "ega": "EGA (16 colors)",
                "c64": "Commodore 64 (16 colors)",
                "spectrum": "ZX Spectrum (15 colors)",
                "nes": "NES (55 colors)",
                "gray4": "Four grays",
            },
            title="Palette",
            help="Colors of the result. Adaptive: colors from the image.",
        )
    )
    colors: int = slider(
        16,
        ge=2,
        le=64,
        title="Colors",
        help="Number of colors in the adaptive palette.",
        show_if={"palette": ["adaptive"]},
    )
    dither: Literal["none", "ordered", "floyd-steinberg"] = choice(
        "none",
        labels={
            "none": "None",
            "ordered": "Ordered (Bayer 4 × 4)",
            "floyd-steinberg": "Floyd–Steinberg",
        },
        title="Dithering",
        help="Mix pixels of two palette colors to approximate the colors between them.",
    )
    outline: bool = toggle(False, title="Outlines", help="Darken the dark side of strong edges.")
    strength: int = slider(
        60,
        ge=0,
        le=100,
        title="Outline strength",
        help="Darkness of the outlines.",
        unit="%",
        show_if={"outline": [True]},
    )


class PixelArt(Operation[PixelArtParams]):
    """Draws an image with large pixels in few colors."""

    key = "pixelart"
    title = "Pixel art"
    summary = "Convert an image to pixel art with a small palette."
    description = (
        "Choose the **pixel size** and a **palette**: colors from the image (k-means in OKLab), or the "
        "colors of a retro console or computer. Dithering mixes neighboring pixels. Outlines darken edges. "
        "The result is a PNG file with the size of the input."
    )
    tier = "advanced"
    version = 1
    Params = PixelArtParams

    def keeps(self, params: PixelArtParams, facts: Mapping[str, Any]) -> Kept:
        return "places"

    def run(self, picture: PictureView, params: PixelArtParams, context: Context) -> Result:
        size = (picture.width, picture.height)
        cell = max(1.0, params.block * context.scale)
        rgb = np.asarray(average_picture(picture, cell))
        lab = to_oklab(rgb)
        if params.outline:
            lab = draw_outlines(lab, params.strength / 100)
        palette = choose_palette(lab, params)
        indices = _assign(lab, palette, params.dither)
        image = _build(indices, palette, _find_transparent(picture.alpha(), size, cell))
        return Result(image=paint_cells(image, size, cell), format="PNG")


def choose_palette(lab: Floats, params: PixelArtParams) -> Bytes:
    """Return the palette (k, 3) as sRGB bytes, dark to light."""
    if params.palette != "adaptive":
        return np.array(read_palette(params.palette), dtype=np.uint8)
    points = lab.reshape(-1, 3)
    # Cluster a sample of evenly spaced cells, for speed.
    points = points[:: max(1, len(points) // _SAMPLE)]
    centers = cluster(points, params.colors)
    return np.unique(from_oklab(centers[np.argsort(centers[:, 0])]), axis=0)


def draw_outlines(lab: Floats, strength: float) -> Floats:
    """Darken cells that are darker than a neighbor, in proportion to the edge. Shape (h, w, 3)."""
    light = lab[..., 0]
    padded = np.pad(light, 1, mode="edge")
    brightest = np.maximum.reduce([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    edge = np.clip((brightest - light - _EDGE_STARTS) / (_EDGE_FULL - _EDGE_STARTS), 0, 1)
    return np.asarray(lab * (1 - strength * edge)[..., None], dtype=np.float32)


def _assign(lab: Floats, palette: Bytes, dither: str) -> NDArray[np.uint8]:
    """Return the index of a palette color for each cell, (h, w)."""
    if dither == "floyd-steinberg":
        return _diffuse(from_oklab(lab), palette)
    centers = to_oklab(palette)
    if dither == "ordered":
        bayer = tile_over(build_bayer(4), *lab.shape[:2])
        lab = lab.copy()
        lab[..., 0] += (bayer - 0.5) * _measure_spacing(centers)
    return find_nearest(lab.reshape(-1, 3), centers).reshape(lab.shape[:2]).astype(np.uint8)


def _measure_spacing(centers: Floats) -> float:
    """Return the typical lightness step of a palette, which sets the strength of ordered dithering."""
    return float(np.ptp(centers[:, 0])) / max(1, min(8, len(centers) - 1))


def _diffuse(rgb: Bytes, palette: Bytes) -> NDArray[np.uint8]:
    """Dither by error diffusion (Floyd and Steinberg 1976), in Pillow."""
    # Pillow uses all 256 entries: unused ones repeat the last color.
    full = np.concatenate([palette, np.repeat(palette[-1:], 256 - len(palette), axis=0)])
    holder = Image.new("P", (1, 1))
    holder.putpalette(full.tobytes())
    dithered = Image.fromarray(rgb).quantize(palette=holder, dither=Image.Dither.FLOYDSTEINBERG)
    return np.minimum(np.asarray(dithered, dtype=np.uint8), np.uint8(len(palette) - 1))


def _find_transparent(
    alpha: Image.Image | None, size: tuple[int, int], cell: float
) -> NDArray[np.bool_] | None:
    """Return which cells are transparent (alpha below 50 %)."""
    return None if alpha is None else np.asarray(average_cells(alpha, size, cell)) < _OPAQUE


def _build(indices: NDArray[np.uint8], palette: Bytes, transparent: NDArray[np.bool_] | None) -> Image.Image:
    """Return an image of mode P, with one pixel for each cell."""
    colors = palette
    if transparent is not None:
        indices = np.where(transparent, len(palette), indices).astype(np.uint8)
        colors = np.concatenate([palette, np.zeros((1, 3), np.uint8)])
    image = Image.fromarray(indices)
    image.putpalette(colors.tobytes())
    if transparent is not None:
        image.info["transparency"] = len(palette)
    return image
