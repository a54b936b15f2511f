"""Blur or crop detections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from workers.plugin import PictureView
from workers.vision.instances import Instance, Turn

Region = tuple[int, int, int, int]

# A blurred region keeps only this many mean colors along its longer side.
_CELLS = 6


def blur(picture: PictureView, instances: Sequence[Instance]) -> Image.Image:
    """Return the image with every instance blurred.

    The blur is made of a few mean colors of the region, so no filter can recover the original.
    """
    alpha = picture.alpha()
    covered = picture.rgb(flat=alpha is None).copy()
    hidden = None if alpha is None else alpha.copy()
    for instance in instances:
        region = whole_region(instance, covered.size)
        if region is None:
            continue
        shape = shape_of(instance, region)
        covered.paste(_smear(covered.crop(region)), region, shape)
        if hidden is not None:
            hidden.paste(_smear(hidden.crop(region)), region, shape)
    if hidden is not None:
        covered.putalpha(hidden)
    return covered


def crop(picture: PictureView, instance: Instance) -> Image.Image:
    """Return the crop of one instance: rotated upright, and transparent outside its mask."""
    image = picture.rgb(flat=False) if picture.alpha() is not None else picture.rgb()
    alpha = picture.alpha()
    if alpha is not None:
        image = image.copy()
        image.putalpha(alpha)
    if instance.turn is not None:
        return _turn_upright(image, instance.turn)
    region = whole_region(instance, image.size) or (0, 0, 1, 1)
    cropped = image.crop(region)
    if instance.mask is not None:
        inside = shape_of(instance, region)
        cropped.putalpha(
            inside if alpha is None else Image.composite(cropped.getchannel("A"), inside, inside)
        )
    return cropped


def whole_region(instance: Instance, size: tuple[int, int]) -> Region | None:
    """Return the box of an instance, rounded outwards to whole pixels; None if it is empty."""
    left, top = (max(0, math.floor(edge)) for edge in instance.box[:2])
    right, bottom = min(size[0], math.ceil(instance.box[2])), min(size[1], math.ceil(instance.box[3]))
    return (left, top, right, bottom) if left < right and top < bottom else None


def shape_of(instance: Instance, region: Region) -> Image.Image:
    """Return a mask of the pixels of a region that an instance covers, mode L: 255 or 0."""
    left, top, right, bottom = region
    size = (right - left, bottom - top)
    if instance.mask is not None:
        shape = Image.new("L", size, 0)
        bits = Image.fromarray(instance.mask.bits().astype(np.uint8) * np.uint8(255))
        shape.paste(bits, (instance.mask.left - left, instance.mask.top - top))
        return shape
    if instance.turn is not None:
        shape = Image.new("L", size, 0)
        ImageDraw.Draw(shape).polygon([(x - left, y - top) for x, y in instance.turn.corners()], fill=255)
        return shape
    return Image.new("L", size, 255)


def _smear(part: Image.Image) -> Image.Image:
    cell = max(1, max(part.size) / _CELLS)
    few = (max(1, round(part.width / cell)), max(1, round(part.height / cell)))
    return part.resize(few, Image.Resampling.BOX).resize(part.size, Image.Resampling.BICUBIC)


def _turn_upright(image: Image.Image, turn: Turn) -> Image.Image:
    longest = math.ceil(math.hypot(*image.size))
    size = (min(max(1, round(turn.width)), longest), min(max(1, round(turn.height)), longest))
    upper_left, upper_right, lower_right, lower_left = turn.corners()
    quad = (*upper_left, *lower_left, *lower_right, *upper_right)
    return image.transform(size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
