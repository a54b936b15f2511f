"""Image generators: image-to-image translation, super-resolution, and images from noise."""

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

# Memory limit of the largest layer, for a tile and for a whole image. Measured runs take two to three times
# as much, without weights.
TILE_BYTES = 192 * 1024 * 1024
WHOLE_BYTES = 384 * 1024 * 1024
# Compute limit of a preview: about six seconds of one core.
PREVIEW_FLOPS = 300 * 10**9
# Pixels generated from noise in one batch: sixteen images of 64 x 64.
_NOISE_PIXELS = 2**16
# Parameters that apply, by layout.
_SETTINGS = {
    "tiles": ("strength", "keep_colors"),
    "whole": ("strength", "keep_colors", "image_size"),
    "noise": ("seed", "columns", "rows"),
}


class GanParams(Params):
    strength: int = slider(
        100,
        ge=0,
        le=100,
        title="Strength",
        help="Blend between the input (0 %) and the result (100 %).",
        unit="%",
    )
    keep_colors: bool = toggle(
        False,
        title="Keep colors",
        help="Take only the brightness from the result, and keep the colors of the input.",
    )
    image_size: int = slider(
        768,
        ge=256,
        le=2048,
        step=64,
        title="Image size",
        help="Longer side of the model input, for models that process the whole image at once.",
        unit="px",
        advanced=True,
    )
    seed: int = slider(
        1,
        ge=0,
        le=999_999,
        title="Seed",
        help="Seed of the random noise. The same seed gives the same images.",
    )
    columns: int = slider(4, ge=1, le=8, title="Columns", help="Number of images in a row.")
    rows: int = slider(4, ge=1, le=8, title="Rows", help="Number of rows of images.")


@dataclass(frozen=True)
class _Source:
    """The network input, and the color and alpha to restore in the result."""

    image: Image.Image
    color: Image.Image
    alpha: Image.Image | None


class Gan(Family[GanParams]):
    """Runs image generators on images of any size, in bounded memory."""

    key = "gan"
    title = "Generator"
    summary = "Transform, upscale or generate images with a generator model."
    description = (
        "Runs ResNet and U-Net generators (CycleGAN, pix2pix), fast neural style, AnimeGANv2, "
        "ESRGAN, Real-ESRGAN compact and DCGAN. Models with a limited receptive field process large images "
        "in overlapping tiles, without visible seams. Models that need the whole image, for example because "
        "of instance normalization, run at the **image size**, and the result is resized to the size of the "
        "input. Models that start from noise generate a grid of images for a **seed**."
    )
    queue = "gpu"
    version = 1
    Params = GanParams

    def keeps(self, params: GanParams, facts: Mapping[str, Any]) -> Kept:
        return "nothing" if facts["layout"] == "noise" else "places"

    def run(self, picture: PictureView, params: GanParams, context: Context) -> Result:
        facts = model_of(context).facts
        # Input sizes vary, so a memory arena that is reused between runs would only grow.
        session = get_session(context, keeps_memory=False)
        if facts["layout"] == "noise":
            return Result(draw_sheet(session, facts, params), scale=1.0)
        return _redraw(picture, params, context, facts, session)

    def settings_for(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        return _SETTINGS[facts["layout"]]

    def recognize(self, upload: Any) -> str | None:
        from workers.families.gan import convert as generators

        return generators.recognize(upload)

    def convert(self, upload: Any) -> Any:
        from workers.families.gan import convert as generators

        return generators.convert(upload)

    def rebuild(self, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        from workers.nets import catalogue

        check_settings(facts["architecture"]["settings"])
        return catalogue.build(facts["architecture"], tensors)


def draw_sheet(session: Session, facts: Mapping[str, Any], params: GanParams) -> Image.Image:
    """Return a grid of images from the noise of a seed. The first images do not depend on the grid size."""
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
    output = run_in_tiles(source.image, facts, session)
    return Result(_mix(source, output, params), scale=context.scale * share)


def run_in_tiles(image: Image.Image, facts: Mapping[str, Any], session: Session) -> Image.Image:
    """Return the result, `scale` times as large as the image, processed in tiles."""
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
    """Return the result at the size of the image. The network runs at `side`, or less to limit memory."""
    pixel_bytes = max(1, facts["architecture"]["pixel_bytes"])
    longest, area = max(image.size), image.width * image.height
    affordable = math.isqrt(WHOLE_BYTES * longest**2 // (pixel_bytes * area))
    size = fit(image.size, max(tiles.LEAST_SIDE, min(side, affordable)))
    small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
    padded = tiles.pad_to(_to_pixels(small), facts["stride"])
    output = tiles.to_bytes(session.run(tiles.to_input(padded))[0])[: size[1], : size[0]]
    result = _to_image(np.ascontiguousarray(output))
    return result if size == image.size else result.resize(image.size, Image.Resampling.BICUBIC)


def _choose_share(size: tuple[int, int], facts: Mapping[str, Any], context: Context) -> float:
    """Return the fraction of the image side at which a preview runs.

    The result of a reduced image need not be larger than that image.
    """
    shown = 1 / facts["scale"] if context.scale < 1 else 1.0
    return min(shown, _affordable_share(size, facts))


def _affordable_share(size: tuple[int, int], facts: Mapping[str, Any]) -> float:
    """Return the largest fraction of the image side within `PREVIEW_FLOPS`."""
    flops = facts["flops"] / facts["architecture"]["flops_side"] ** 2 * size[0] * size[1]
    return math.sqrt(min(1.0, PREVIEW_FLOPS / max(1.0, flops)))


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if max(width, height) > LIMITS.max_side or width * height > LIMITS.max_pixels:
        text = (
            f"The result would have {width} × {height} pixels. The limit is {LIMITS.max_pixels // 10**6} "
            f"megapixels, and {LIMITS.max_side} pixels on the longer side. Use a smaller image or grid."
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


def _mix(source: _Source, output: Image.Image, params: GanParams) -> Image.Image:
    """Return the output with the colors, strength and transparency that the parameters ask for."""
    if params.keep_colors:
        luma = output.convert("L")
        _, blue, red = _enlarge(source.color, output.size).convert("YCbCr").split()
        output = Image.merge("YCbCr", (luma, blue, red)).convert("RGB")
    if params.strength < 100:
        output = Image.blend(
            _enlarge(source.color, output.size), output.convert("RGB"), params.strength / 100
        )
    if source.alpha is not None:
        output.putalpha(_enlarge(source.alpha, output.size))
    return output


def _enlarge(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _to_pixels(image: Image.Image) -> Bytes:
    """Return an array (h, w, channels)."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _to_image(pixels: Bytes) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
