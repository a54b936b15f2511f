"""Letterbox resizing as in Ultralytics: keep the aspect ratio, and pad with gray. Also classifier crops."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.inference.inputs import PlannedInput
from workers.media.pixels import view_pixels
from workers.plugin import PictureView

Floats = NDArray[np.float32]
Size = tuple[int, int]
PADDING = 114
# For these filters, crop after resizing, because the crop must be exact. Above this side that takes too much
# memory.
_STEPPED = ("nearest", "box")
_MOST_SIDE = 8192


@dataclass(frozen=True)
class Letterbox:
    """Position of an image in an input. Sizes are (width, height) in pixels; `inner` is the resized image."""

    picture: Size
    input: Size
    inner: Size
    left: int
    top: int

    @classmethod
    def fit(cls, picture: Size, into: Size, stride: int | None = None) -> Letterbox:
        """Return the largest centered fit.

        `stride`: reduce the input to the smallest multiple of this that holds the image.
        """
        gain = min(into[0] / picture[0], into[1] / picture[1])
        inner = max(1, round(picture[0] * gain)), max(1, round(picture[1] * gain))
        if stride is not None:
            into = round_up(inner[0], stride), round_up(inner[1], stride)
        # An odd pixel of padding goes to the right or bottom.
        left, top = (round((outer - side) / 2 - 0.1) for outer, side in zip(into, inner, strict=True))
        return cls(picture, into, inner, left, top)

    @property
    def gains(self) -> tuple[float, float]:
        """Scale factors from the image to the input, horizontal and vertical."""
        return self.inner[0] / self.picture[0], self.inner[1] / self.picture[1]

    def to_picture(self, points: Floats, *, clip: bool = True) -> Floats:
        """Convert points (…, 2) from input to image pixels."""
        moved = (points - np.asarray((self.left, self.top), np.float32)) / np.asarray(self.gains, np.float32)
        if clip:
            moved = np.clip(moved, 0, np.asarray(self.picture, np.float32))
        return moved.astype(np.float32, copy=False)

    def boxes_to_picture(self, boxes: Floats) -> Floats:
        """Convert boxes (n, 4: left, top, right, bottom) to image pixels, clipped to the image."""
        return self.to_picture(boxes.reshape(-1, 2, 2)).reshape(-1, 4)

    def fill(self, view: PictureView, channels: int = 3) -> Floats:
        """Return the input, (1, channels, height, width), 0 to 1, RGB or gray."""
        return self.plan(view, channels).to_array()

    def plan(self, view: PictureView, channels: int = 3) -> PlannedInput:
        """Return the same as a plan: decoded and resized, but not converted to floats yet."""
        planes = _resize(open_whole(view, channels), self.inner, channels)
        shape = (1, channels, self.input[1], self.input[0])
        return PlannedInput(shape, functools.partial(self._write, planes))

    def _write(self, planes: Sequence[NDArray[np.uint8]], pixels: Floats) -> None:
        right, bottom = self.left + self.inner[0], self.top + self.inner[1]
        down, across = slice(self.top, bottom), slice(self.left, right)
        for edge in (pixels[..., : self.top, :], pixels[..., bottom:, :]):
            edge.fill(PADDING / 255)
        for edge in (pixels[..., down, : self.left], pixels[..., down, right:]):
            edge.fill(PADDING / 255)
        for place, plane in zip(pixels[0, :, down, across], planes, strict=True):
            np.divide(plane, np.float32(255), out=place, dtype=np.float32)


def round_up(side: int, stride: int) -> int:
    """Round a side up to a multiple of a stride."""
    return -(-side // stride) * stride


def fill_cropped(
    view: PictureView, side: int, channels: int = 3, crop: float = 1.0, resample: str = "bilinear"
) -> Floats:
    """Return the center crop of an image, (1, channels, side, side), 0 to 1.

    The shorter side is first resized to `side` / `crop`, as torchvision's Resize and CenterCrop do.
    """
    short, wanted = min(view.width, view.height), _side_before(side, crop)
    size = max(wanted, int(wanted * view.width / short)), max(wanted, int(wanted * view.height / short))
    return _fill_middle(view, side, size, channels, resample)


def fill_stretched(
    view: PictureView, side: int, channels: int = 3, crop: float = 1.0, resample: str = "bilinear"
) -> Floats:
    """Return an image stretched to a square, (1, channels, side, side), 0 to 1.

    It is resized to `side` / `crop` in both directions, then center-cropped. With crop 1, nothing is cropped.
    """
    before = _side_before(side, crop)
    return _fill_middle(view, side, (before, before), channels, resample)


def open_whole(view: PictureView, channels: int = 3) -> Image.Image:
    """Return the full-size image, RGB or gray.

    Networks are trained on images resized from full size. Images that the decoder already reduced give
    different detections.
    """
    return view.gray() if channels == 1 else view.rgb()


def _side_before(side: int, crop: float) -> int:
    # The tolerance absorbs rounding errors of ratios such as 224 / 248.
    return int(side / crop + 1e-6)


def _fill_middle(view: PictureView, side: int, size: Size, channels: int, resample: str) -> Floats:
    """Resize an image and return its center crop. Only the cropped part is resized."""
    image = open_whole(view, channels)
    left, top = (round((length - side) / 2) for length in size)
    if resample in _STEPPED and max(size) <= _MOST_SIDE:
        whole = image.resize(size, Image.Resampling[resample.upper()])
        return _spread(whole.crop((left, top, left + side, top + side)), channels)
    across, down = image.width / size[0], image.height / size[1]
    box = (left * across, top * down, (left + side) * across, (top + side) * down)
    return _spread(image.resize((side, side), Image.Resampling[resample.upper()], box=box), channels)


def _spread(square: Image.Image, channels: int) -> Floats:
    pixels = np.empty((1, channels, square.height, square.width), np.float32)
    for place, band in zip(pixels[0], square.split(), strict=True):
        np.divide(np.asarray(band), np.float32(255), out=place, dtype=np.float32)
    return pixels


def _resize(image: Image.Image, size: Size, channels: int) -> tuple[NDArray[np.uint8], ...]:
    """Return the resized bands of an image. OpenCV is used because networks are trained with it.

    Pillow takes five times as long.
    """
    opencv = _open_opencv()
    pixels = view_pixels(image)
    if image.size != size:
        pixels = opencv.resize(pixels, size, interpolation=opencv.INTER_LINEAR)
    bands: tuple[NDArray[np.uint8], ...] = opencv.split(pixels)
    return bands[:channels]


@functools.cache
def _open_opencv() -> Any:
    import cv2

    # Each slot is a process with one core.
    cv2.setNumThreads(1)
    return cv2
