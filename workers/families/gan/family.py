"""Generators: pictures into other pictures, small pictures into large ones, noise into pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.inference.sessions import Session, get_session, model_of
from workers.media.picture import LIMITS, fit
from workers.nets.plan import check_settings
from workers.plugin import (
    Context,
    Family,
    Kept,
    OperationError,
    Params,
    PictureView,
    Result,
    slider,
    toggle,
)
from workers.vision import tiles

Bytes = NDArray[np.uint8]

# What the largest layer of a network may take: for a tile, and for a picture that goes through whole. Runs
# were seen to take two to three times as much, weights aside.
TILE_BYTES = 192 * 1024 * 1024
WHOLE_BYTES = 384 * 1024 * 1024
# What somebody who waits for a preview may wait for: some six seconds of one core.
PREVIEW_FLOPS = 300 * 10**9
# Of pictures made of noise at once: sixteen of 64 pixels a side.
_NOISE_PIXELS = 2**16
# Which of them mean something, by how a network goes over a picture.
_SETTINGS = {
    "tiles": ("strength", "keep_colors"),
    "whole": ("strength", "keep_colors", "image_size"),
    "noise": ("seed", "columns", "rows"),
}


class GanParams(Params):
    strength: int = slider(
        100, ge=0, le=100, title="Strength", help="How much of the result is mixed in.", unit="%"
    )
    keep_colors: bool = toggle(
        False, title="Keep colors", help="Light and dark of the result, in the colors of the image."
    )
    image_size: int = slider(
        768,
        ge=256,
        le=2048,
        step=64,
        title="Image size",
        help="Longer side of the image that the model sees, for models that see the whole image at once.",
        unit="px",
        advanced=True,
    )
    seed: int = slider(
        1, ge=0, le=999_999, title="Seed", help="For models that start from noise: which noise."
    )
    columns: int = slider(
        4, ge=1, le=8, title="Columns", help="For models that start from noise: pictures in a row."
    )
    rows: int = slider(
        4, ge=1, le=8, title="Rows", help="For models that start from noise: rows of pictures."
    )


@dataclass(frozen=True)
class _Source:
    """A picture as the network reads it, and what is laid over its result again."""

    image: Image.Image
    color: Image.Image
    alpha: Image.Image | None


class Gan(Family[GanParams]):
    """Runs generators, whatever the size of the picture, in bounded memory."""

    key = "gan"
    title = "Generator"
    summary = "Redraws, enlarges or invents pictures with the weights of a generator."
    description = (
        "Runs ResNet and U-Net generators (CycleGAN, pix2pix), fast neural style, AnimeGANv2, "
        "ESRGAN, Real-ESRGAN compact and DCGAN. Where a pixel depends on its surroundings alone, a large "
        "picture goes through in overlapping tiles and shows no seam. Where it depends on all others, as "
        "instance norms make it, it goes through whole, at the **image size**, and is brought back to its "
        "own. Models that start from noise draw a sheet of pictures for a **seed**."
    )
    queue = "gpu"
    version = 1
    Params = GanParams

    def keeps(self, params: GanParams, facts: Mapping[str, Any]) -> Kept:
        return "nothing" if facts["layout"] == "noise" else "places"

    def run(self, picture: PictureView, params: GanParams, context: Context) -> Result:
        facts = model_of(context).facts
        # Tiles and pictures differ in size: memory that is kept for the next one would only grow.
        session = get_session(context, keeps_memory=False)
        if facts["layout"] == "noise":
            return Result(draw_sheet(session, facts, params), scale=1.0)
        return _redraw(picture, params, context, facts, session)

    def settings_for(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        return _SETTINGS[facts["layout"]]

    def recognise(self, upload: Any) -> str | None:
        from workers.families.gan import convert as generators

        return generators.recognise(upload)

    def convert(self, upload: Any) -> Any:
        from workers.families.gan import convert as generators

        return generators.convert(upload)

    def rebuild(self, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        from workers.nets import catalogue

        check_settings(facts["architecture"]["settings"])
        return catalogue.build(facts["architecture"], tensors)


def draw_sheet(session: Session, facts: Mapping[str, Any], params: GanParams) -> Image.Image:
    """Pictures from the noise of a seed, side by side. A larger sheet begins with those of a smaller one."""
    side = facts["architecture"]["side"]
    _check_size((params.columns * side, params.rows * side))
    count = params.columns * params.rows
    channels = facts["input"]["channels"]
    noise = np.random.default_rng(params.seed).standard_normal((count, channels, 1, 1), np.float32)
    at_once = max(1, _NOISE_PIXELS // side**2)
    batches = [noise[start : start + at_once] for start in range(0, count, at_once)]
    drawn = [tiles.to_bytes(one[None]) for batch in batches for one in session.run(batch)[0]]
    rows = [np.concatenate(drawn[at : at + params.columns], 1) for at in range(0, count, params.columns)]
    return _to_image(np.concatenate(rows))


def _redraw(
    picture: PictureView, params: GanParams, context: Context, facts: Mapping[str, Any], session: Session
) -> Result:
    source = _read(picture, facts["input"]["channels"])
    if facts["layout"] == "whole":
        side = params.image_size
        if context.is_preview:
            side = min(side, round(max(source.image.size) * _affordable_share(source.image.size, facts)))
        return Result(_mix(source, run_whole(source.image, facts, session, side), params))
    share = _choose_share(source.image.size, facts, context) if context.is_preview else 1.0
    if share < 1:
        source = _shrink(source, share)
    _check_size((source.image.width * facts["scale"], source.image.height * facts["scale"]))
    made = run_in_tiles(source.image, facts, session)
    return Result(_mix(source, made, params), scale=context.scale * share)


def run_in_tiles(image: Image.Image, facts: Mapping[str, Any], session: Session) -> Image.Image:
    """Return the whole result, `scale` times as large, made from tiles."""
    architecture = facts["architecture"]
    tiling = tiles.plan_tiles(
        margin=architecture["margin"],
        stride=facts["stride"],
        scale=facts["scale"],
        pixel_bytes=architecture["pixel_bytes"],
        budget=TILE_BYTES,
    )
    return _to_image(tiles.run_tiled(_to_pixels(image), lambda pixels: session.run(pixels)[0], tiling))


def run_whole(image: Image.Image, facts: Mapping[str, Any], session: Session, side: int) -> Image.Image:
    """Return the result at the picture's size, made at `side`, or less where memory does not reach."""
    pixel_bytes = max(1, facts["architecture"]["pixel_bytes"])
    longest, area = max(image.size), image.width * image.height
    affordable = math.isqrt(WHOLE_BYTES * longest**2 // (pixel_bytes * area))
    size = fit(image.size, max(tiles.LEAST_SIDE, min(side, affordable)))
    small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
    padded = tiles.pad_to(_to_pixels(small), facts["stride"])
    made = tiles.to_bytes(session.run(tiles.to_input(padded))[0])[: size[1], : size[0]]
    result = _to_image(np.ascontiguousarray(made))
    return result if size == image.size else result.resize(image.size, Image.Resampling.BICUBIC)


def _choose_share(size: tuple[int, int], facts: Mapping[str, Any], context: Context) -> float:
    """The part of its side that a preview is worked on at.

    Of a picture that was reduced already, the result need be no larger than what was handed over.
    """
    shown = 1 / facts["scale"] if context.scale < 1 else 1.0
    return min(shown, _affordable_share(size, facts))


def _affordable_share(size: tuple[int, int], facts: Mapping[str, Any]) -> float:
    """The part of a picture's side at which a preview does not take too long."""
    flops = facts["flops"] / facts["architecture"]["flops_side"] ** 2 * size[0] * size[1]
    return math.sqrt(min(1.0, PREVIEW_FLOPS / max(1.0, flops)))


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if max(width, height) > LIMITS.max_side or width * height > LIMITS.max_pixels:
        text = (
            f"The result would have {width} × {height} pixels. At most {LIMITS.max_pixels // 10**6} "
            "megapixels are possible: ask for less, or use a smaller picture."
        )
        raise OperationError(text, code="too_large")


def _read(picture: PictureView, channels: int) -> _Source:
    color, alpha = picture.rgb(flat=False), picture.alpha()
    return _Source(picture.gray(flat=False) if channels == 1 else color, color, alpha)


def _shrink(source: _Source, share: float) -> _Source:
    size = fit(source.image.size, max(1, round(max(source.image.size) * share)))

    def small(image: Image.Image) -> Image.Image:
        return image.resize(size, Image.Resampling.BICUBIC)

    return _Source(
        small(source.image), small(source.color), None if source.alpha is None else small(source.alpha)
    )


def _mix(source: _Source, made: Image.Image, params: GanParams) -> Image.Image:
    """Lay the result over the picture as the settings say."""
    if params.keep_colors:
        luma = made.convert("L")
        _, blue, red = _enlarge(source.color, made.size).convert("YCbCr").split()
        made = Image.merge("YCbCr", (luma, blue, red)).convert("RGB")
    if params.strength < 100:
        made = Image.blend(_enlarge(source.color, made.size), made.convert("RGB"), params.strength / 100)
    if source.alpha is not None:
        made.putalpha(_enlarge(source.alpha, made.size))
    return made


def _enlarge(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _to_pixels(image: Image.Image) -> Bytes:
    """(h, w, channels)."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _to_image(pixels: Bytes) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
