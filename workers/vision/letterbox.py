"""Fitting a picture into a model's input, as Ultralytics does: its shape kept, grey around it."""

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
# Filters whose result changes by steps: where a part begins must be exact. Beyond this side it takes too much
# memory.
_STEPPED = ("nearest", "box")
_MOST_SIDE = 8192


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in an input. Sizes are (width, height) in pixels, `inner` the picture's there."""

    picture: Size
    input: Size
    inner: Size
    left: int
    top: int

    @classmethod
    def fit(cls, picture: Size, into: Size, stride: int | None = None) -> Letterbox:
        """As large as fits, in the middle.

        `stride`: the input may be smaller than `into` and is cut down to what the picture needs, each side a
        multiple of this.
        """
        gain = min(into[0] / picture[0], into[1] / picture[1])
        inner = max(1, round(picture[0] * gain)), max(1, round(picture[1] * gain))
        if stride is not None:
            into = round_up(inner[0], stride), round_up(inner[1], stride)
        # Half a pixel too much goes to the right and to the bottom.
        left, top = (round((outer - side) / 2 - 0.1) for outer, side in zip(into, inner, strict=True))
        return cls(picture, into, inner, left, top)

    @property
    def gains(self) -> tuple[float, float]:
        """Pixels of the input for one of the picture, across and down."""
        return self.inner[0] / self.picture[0], self.inner[1] / self.picture[1]

    def to_picture(self, points: Floats, *, clip: bool = True) -> Floats:
        """Bring points (…, 2) from the input's pixels to the picture's."""
        moved = (points - np.asarray((self.left, self.top), np.float32)) / np.asarray(self.gains, np.float32)
        if clip:
            moved = np.clip(moved, 0, np.asarray(self.picture, np.float32))
        return moved.astype(np.float32, copy=False)

    def boxes_to_picture(self, boxes: Floats) -> Floats:
        """Bring boxes (n, 4) of left, top, right, bottom to the picture's pixels, none outside it."""
        return self.to_picture(boxes.reshape(-1, 2, 2)).reshape(-1, 4)

    def fill(self, view: PictureView, channels: int = 3) -> Floats:
        """Return the input, (1, channels, height, width), 0 to 1: red, green and blue, or grey alone."""
        return self.plan(view, channels).to_array()

    def plan(self, view: PictureView, channels: int = 3) -> PlannedInput:
        """Return the same, decoded and resized but not yet written."""
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
    """Return the smallest multiple of a stride that is not below a side."""
    return -(-side // stride) * stride


def fill_cropped(
    view: PictureView, side: int, channels: int = 3, crop: float = 1.0, resample: str = "bilinear"
) -> Floats:
    """Return the middle square of a picture as a classifier's input, (1, channels, side, side), 0 to 1.

    The shorter side is brought to `side` / `crop` first: Resize and CenterCrop of `torchvision.transforms`.
    """
    short, wanted = min(view.width, view.height), _side_before(side, crop)
    size = max(wanted, int(wanted * view.width / short)), max(wanted, int(wanted * view.height / short))
    return _fill_middle(view, side, size, channels, resample)


def fill_stretched(
    view: PictureView, side: int, channels: int = 3, crop: float = 1.0, resample: str = "bilinear"
) -> Floats:
    """Return a picture, whatever its shape, as a square (1, channels, side, side), 0 to 1.

    It is squeezed to `side` / `crop` across and down, and the middle of that is cut out: all of it, for 1.
    """
    before = _side_before(side, crop)
    return _fill_middle(view, side, (before, before), channels, resample)


def open_whole(view: PictureView, channels: int = 3) -> Image.Image:
    """Return all pixels of a picture, in colors or grey.

    Networks are trained on pictures that are resized from all of their pixels. Resized from a picture that
    the decoder has reduced already, they look different enough that other things are found in them.
    """
    return view.gray() if channels == 1 else view.rgb()


def _side_before(side: int, crop: float) -> int:
    # A share such as 224 / 248 may come out a hair below.
    return int(side / crop + 1e-6)


def _fill_middle(view: PictureView, side: int, size: Size, channels: int, resample: str) -> Floats:
    """Bring a picture to a size and return its middle. Only the square that is looked at gets resized."""
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
    """Return a picture's bands at a size, as OpenCV resizes: networks are trained on such pictures.

    Pillow takes five times as long for it.
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

    # A slot is a process with one core.
    cv2.setNumThreads(1)
    return cv2
