"""Masks: runs, COCO RLE and outlines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from workers.vision.contours import outline, simplify, trace
from workers.vision.letterbox import Letterbox
from workers.vision.masks import Mask, assemble

BITS = arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def decode_rle(rle: dict[str, object]) -> np.ndarray:
    """Decode a COCO RLE string to bits, as rleFrString and rleDecode of maskApi.c do."""
    height, width = rle["size"]
    text, counts, at = rle["counts"], [], 0
    while at < len(text):
        value = shift = 0
        more = True
        while more:
            part = ord(text[at]) - 48
            value |= (part & 0x1F) << (5 * shift)
            more = bool(part & 0x20)
            at, shift = at + 1, shift + 1
            if not more and part & 0x10:
                value |= -1 << (5 * shift)
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    bits = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    assert bits.size == height * width
    return bits.reshape(width, height).T


@settings(max_examples=200, deadline=None)
@given(
    bits=BITS,
    left=st.integers(0, 3),
    top=st.integers(0, 3),
    right=st.integers(0, 3),
    bottom=st.integers(0, 3),
)
def test_a_mask_comes_back_bit_for_bit(
    bits: np.ndarray, left: int, top: int, right: int, bottom: int
) -> None:
    mask = Mask.of(bits, left, top)
    assert np.array_equal(mask.bits(), bits)
    assert mask.area == bits.sum()
    whole = np.pad(bits, ((top, bottom), (left, right)))
    assert np.array_equal(decode_rle(mask.rle(whole.shape[1], whole.shape[0])), whole)


def test_the_run_lengths_are_coco_s() -> None:
    """A known pair: 7 x 5 pixels with a 2 x 3 block, as pycocotools encodes it."""
    bits = np.zeros((7, 5), bool)
    bits[2:5, 1:3] = True
    # Nine pixels before the block, three of it, four between its columns, three of it, and sixteen after.
    assert Mask.of(bits).rle(5, 7) == {"size": [7, 5], "counts": "9340<"}


@settings(max_examples=200, deadline=None)
@given(bits=BITS)
def test_an_outline_encloses_the_largest_part(bits: np.ndarray) -> None:
    corners = trace(bits)
    if not bits.any():
        assert len(corners) == 0
        return
    area = _shoelace(corners)
    parts = [_fill_holes(part) for part in _parts(bits)]
    assert area == max(part.sum() for part in parts)
    assert any(np.array_equal(_inside(corners, bits.shape), part) for part in parts)


def _parts(bits: np.ndarray) -> list[np.ndarray]:
    """Return the 4-connected components."""
    left, parts = bits.copy(), []
    while left.any():
        part = np.zeros_like(bits)
        waiting = [tuple(np.argwhere(left)[0])]
        while waiting:
            y, x = waiting.pop()
            if 0 <= y < bits.shape[0] and 0 <= x < bits.shape[1] and left[y, x]:
                left[y, x], part[y, x] = False, True
                waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        parts.append(part)
    return parts


def _fill_holes(part: np.ndarray) -> np.ndarray:
    """Fill the holes: all pixels that are not 8-connected to the outside."""
    outside = np.pad(~part, 1, constant_values=True)
    seen = np.zeros_like(outside)
    waiting = [(0, 0)]
    while waiting:
        y, x = waiting.pop()
        if 0 <= y < seen.shape[0] and 0 <= x < seen.shape[1] and outside[y, x] and not seen[y, x]:
            seen[y, x] = True
            waiting += [(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    return ~seen[1:-1, 1:-1]


def _shoelace(corners: np.ndarray) -> float:
    x, y = corners.T.astype(float)
    return (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _inside(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Even-odd rule at the middle of each pixel."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if x1 == x2:
            inside ^= ((y1 > y) != (y2 > y)) & (x < x1)
    return inside


@pytest.mark.parametrize("radius", [3, 20, 90])
def test_a_disc_becomes_a_polygon_of_few_points(radius: int) -> None:
    y, x = np.mgrid[0:200, 0:200]
    bits = (x - 100) ** 2 + (y - 95) ** 2 <= radius**2
    points = outline(Mask.of(bits, 7, 9))
    assert len(points) <= 64
    drawn = Image.new("1", (220, 220))
    ImageDraw.Draw(drawn).polygon([tuple(point) for point in points - (7, 9)], fill=1)
    got = np.asarray(drawn)[:200, :200]
    assert (got & bits).sum() / (got | bits).sum() > (0.9 if radius > 3 else 0.6)
    assert _shoelace(points) == pytest.approx(np.pi * radius**2, rel=0.15)


def test_large_masks_are_outlined_within_them() -> None:
    bits = np.zeros((3000, 2000), bool)
    bits[100:2900, 50:1950] = True
    points = outline(Mask.of(bits, 5, 6))
    assert points.min(axis=0) == pytest.approx([55, 106], abs=6)
    assert points.max(axis=0) == pytest.approx([1955, 2906], abs=6)
    assert len(points) == 4


def test_simplifying_keeps_within_the_tolerance() -> None:
    turn = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    points = np.stack([50 * np.cos(turn), 30 * np.sin(turn)], axis=1).astype(np.float32)
    few = simplify(points, 1.0)
    assert 4 < len(few) < 40
    for point in points:
        assert (
            min(_distance(point, a, b) for a, b in zip(few, np.roll(few, -1, axis=0), strict=True)) <= 1.001
        )


def _distance(point: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    along = b - a
    share = np.clip(((point - a) @ along) / (along @ along), 0, 1)
    return float(np.hypot(*(point - a - share * along)))


# --- From prototypes.


def _prototypes(seed: int, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rough = rng.normal(0, 1, (count, 6, 6)).astype(np.float32)
    smooth = [np.asarray(Image.fromarray(one).resize((40, 40), Image.Resampling.BICUBIC)) for one in rough]
    return rng.normal(0, 1, (3, count)).astype(np.float32), np.stack(smooth)


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (160, 160), (641, 333), (1000, 90)])
@pytest.mark.parametrize("stride", [None, 32])
def test_masks_are_those_of_ultralytics_at_full_size(size: tuple[int, int], stride: int | None) -> None:
    import torch
    from ultralytics.utils.ops import process_mask_native

    coefficients, prototypes = _prototypes(sum(size))
    place = Letterbox.fit(size, (160, 160), stride)
    columns, rows = (length // 4 for length in place.input)
    prototypes = np.ascontiguousarray(prototypes[:, :rows, :columns])
    boxes = np.array(
        [[0, 0, *size], [size[0] / 3 + 0.4, 5.5, size[0] - 7.2, size[1] - 3], [2, 2, 2, 2]], np.float32
    )
    theirs = process_mask_native(
        *(torch.from_numpy(part) for part in (prototypes, coefficients, boxes)), size[::-1]
    ).numpy()
    ours = np.zeros_like(theirs)
    for index, mask in enumerate(assemble(coefficients, prototypes, boxes, place)):
        left, top, right, bottom = mask.region
        ours[index, top:bottom, left:right] = mask.bits()
    assert (ours != theirs).mean() < 0.01
    assert ours[:2].any(axis=(1, 2)).all()
    assert not ours[2].any()


def test_a_mask_of_many_megapixels_needs_little_memory() -> None:
    """Strips: at no time all of the 30 megapixels in floats."""
    import tracemalloc

    coefficients, prototypes = _prototypes(1)
    place = Letterbox.fit((6000, 5000), (160, 160))
    boxes = np.array([[0, 0, 6000, 5000]], np.float32)
    tracemalloc.start()
    mask = next(assemble(coefficients[:1], prototypes, boxes, place))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.area > 1_000_000
    assert most < 6000 * 5000 * 4 / 2
    narrow = np.array([[1000, 0, 1001, 5000]], np.float32)
    column = next(assemble(coefficients[:1], prototypes, narrow, place))
    assert np.array_equal(column.bits()[:, 0], mask.bits()[:, 1000])
