"""Instance masks: assembly from prototypes, run-length encoding, and COCO RLE."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.inference.errors import check_finite
from workers.plugin import JSON
from workers.vision.letterbox import Letterbox

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Bits = NDArray[np.bool_]
Region = tuple[int, int, int, int]

_STRIP = 4_000_000


@dataclass(frozen=True)
class Mask:
    """The mask of an instance, in a region of the image.

    Stored as runs along columns, in ascending order: column, first row, and row after the last. So a mask of
    many megapixels takes only a few thousand numbers.
    """

    left: int
    top: int
    width: int
    height: int
    columns: Integers
    begins: Integers
    ends: Integers

    @classmethod
    def of(cls, bits: Bits, left: int = 0, top: int = 0) -> Mask:
        """Return the mask of bits (height, width)."""
        return cls(left, top, bits.shape[1], bits.shape[0], *_find_runs(bits))

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int((self.ends - self.begins).sum())

    @property
    def region(self) -> Region:
        """Region of the mask: left, top, right, bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    def bits(self) -> Bits:
        """Return the bits of the region, (height, width)."""
        steps = np.zeros((self.width, self.height + 1), np.int8)
        steps[self.columns, self.begins] = 1
        steps[self.columns, self.ends] -= 1
        inside: Bits = steps.cumsum(axis=1, dtype=np.int8)[:, :-1].astype(bool)
        return inside.T

    def rle(self, width: int, height: int) -> dict[str, JSON]:
        """Return the compressed COCO RLE for an image of this size. Pixels are in column order."""
        begins = (self.left + self.columns) * height + self.top + self.begins
        ends = (self.left + self.columns) * height + self.top + self.ends
        # A run at the end of a column and one at the start of the next are one run.
        apart = begins[1:] != ends[:-1]
        begins = begins[np.concatenate([[True], apart])] if len(begins) else begins
        ends = ends[np.concatenate([apart, [True]])] if len(ends) else ends
        edges = np.stack([begins, ends], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=width * height)
        if len(edges) and edges[-1] == width * height:
            counts = counts[:-1]
        return {"size": [height, width], "counts": _compress(counts.tolist())}


def _find_runs(bits: Bits) -> tuple[Integers, Integers, Integers]:
    height, width = bits.shape
    # An empty row at the bottom ends the last run of each column.
    padded = np.zeros((width, height + 1), np.int8)
    padded[:, :height] = bits.T
    steps = np.diff(padded.ravel(), prepend=np.int8(0))
    begins, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return begins // (height + 1), begins % (height + 1), ends % (height + 1)


def _compress(counts: list[int]) -> str:
    """Return the COCO string: 5 bits per character; since the fourth, differences to two counts before."""
    text = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            part = value & 0x1F
            value >>= 5
            more = value != (-1 if part & 0x10 else 0)
            text.append(chr((part | 0x20 if more else part) + 48))
    return "".join(text)


def assemble(coefficients: Floats, prototypes: Floats, boxes: Floats, place: Letterbox) -> Iterator[Mask]:
    """Yield the mask of each instance at full image size, cropped to its box.

    Args:
        coefficients: (n, k), weights of the prototypes.
        prototypes: (k, rows, columns), over the whole input.
        boxes: (n, 4) left, top, right, bottom in pixels of the image.

    Raises:
        ModelFault: a mask is not finite.
    """
    count, rows, columns = prototypes.shape
    flat = prototypes.reshape(count, -1)
    for one, box in zip(coefficients, boxes, strict=True):
        logits = (one @ flat).reshape(rows, columns)
        check_finite(logits)
        yield _enlarge(Image.fromarray(logits), _whole_pixels(box, place.picture), place)


def _whole_pixels(box: Floats, picture: tuple[int, int]) -> Region:
    """Return the region of the pixels inside a box."""
    left, top, right, bottom = (math.ceil(edge) for edge in box.tolist())
    return left, top, min(max(left, right), picture[0]), min(max(top, bottom), picture[1])


def _enlarge(logits: Image.Image, region: Region, place: Letterbox) -> Mask:
    """Resize a part of the logits to image size and threshold it at 0, in strips to save memory."""
    left, top, right, bottom = region
    width, height = max(0, right - left), max(0, bottom - top)
    step = max(1, _STRIP // max(1, height))
    found = []
    for start in range(0, width if height else 0, step):
        stop = min(width, start + step)
        box = _locate((left + start, top, left + stop, bottom), logits.size, place)
        part = logits.resize((stop - start, height), Image.Resampling.BILINEAR, box=box)
        strip, begins, ends = _find_runs(np.asarray(part) > 0)
        found.append((strip + start, begins, ends))
    nothing = np.empty(0, np.int64)
    runs = [np.concatenate(parts) for parts in zip(*found, strict=True)] if found else [nothing] * 3
    return Mask(left, top, width, height, *runs)


def _locate(region: Region, size: tuple[int, int], place: Letterbox) -> tuple[float, float, float, float]:
    """Return the position of an image region in the prototypes."""
    edges = []
    for index, edge in enumerate(region):
        axis = index % 2
        inside = edge * place.gains[axis] + (place.left, place.top)[axis]
        edges.append(min(max(0.0, inside * size[axis] / place.input[axis]), float(size[axis])))
    return edges[0], edges[1], edges[2], edges[3]
