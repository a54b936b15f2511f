"""Contours of masks: tracing along pixel edges, and polygon simplification."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from workers.vision.masks import Bits, Mask

Floats = NDArray[np.float32]
Points = NDArray[np.int64]

# Larger masks are subsampled, so their outline is coarser.
_MAX_SIDE = 512
_EAST, _SOUTH, _WEST, _NORTH = range(4)


def outline(mask: Mask, tolerance: float = 1.0) -> Floats:
    """Return the outline (n, 2) of the largest part of a mask, clockwise, in pixels of the image.

    Simplified with a tolerance in pixels. Empty if the mask is empty.
    """
    factor = -(-max(mask.width, mask.height, 1) // _MAX_SIDE)
    bits = mask.bits()[::factor, ::factor]
    loop = trace(bits)
    if not len(loop):
        return np.empty((0, 2), np.float32)
    corner = np.array((mask.left, mask.top))
    points = corner + np.minimum(loop * factor, np.array((mask.width, mask.height)))
    return simplify(points.astype(np.float32), max(tolerance, 0.75 * factor))


def trace(bits: Bits) -> Points:
    """Return the corners (n, 2: x, y) of the largest outline of bits (height, width), clockwise."""
    starts, directions, following = _link(bits)
    best: Points = np.empty((0, 2), np.int64)
    largest = 0.0
    seen = bytearray(len(following))
    for first in range(len(following)):
        if seen[first]:
            continue
        loop, edge = [], first
        while not seen[edge]:
            seen[edge] = 1
            loop.append(edge)
            edge = following[edge]
        points = _corners(starts, directions, np.array(loop))
        area = _area(points)
        # Holes run counterclockwise, so their area is negative.
        if area > largest:
            best, largest = points, area
    return best


def simplify(points: Floats, tolerance: float) -> Floats:
    """Simplify a closed outline (Douglas and Peucker 1973).

    It is split at the first point and the point furthest from it.
    """
    if len(points) <= 4:
        return points
    far = int(((points - points[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([points, points[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far]] = True
    waiting = [(0, far), (far, len(points))]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        furthest, distance = _find_furthest(closed, first, last)
        if distance > tolerance:
            keep[furthest] = True
            waiting += [(first, furthest), (furthest, last)]
    return points[keep[:-1]]


def _link(bits: Bits) -> tuple[Points, Points, list[int]]:
    """Return the start (x, y), the direction and the next edge of each pixel edge.

    Edges run clockwise, with the inside on their right. Where two pixels only touch at a corner, the outline
    turns right, so they are separate.
    """
    height, width = bits.shape
    padded = np.zeros((height + 2, width + 2), bool)
    padded[1:-1, 1:-1] = bits
    inside = padded[1:-1, 1:-1]
    # For each direction: the pixels with such an edge, and the offset of its start.
    sides = (
        (inside & ~padded[:-2, 1:-1], 0, 0),
        (inside & ~padded[1:-1, 2:], 1, 0),
        (inside & ~padded[2:, 1:-1], 1, 1),
        (inside & ~padded[1:-1, :-2], 0, 1),
    )
    table = np.full((4, height + 1, width + 1), -1, np.int64)
    found, count = [], 0
    for direction, (has, dx, dy) in enumerate(sides):
        y, x = np.nonzero(has)
        table[direction, y + dy, x + dx] = np.arange(count, count + len(x))
        count += len(x)
        found.append((x + dx, y + dy, np.full(len(x), direction)))
    x, y, directions = (np.concatenate(parts) for parts in zip(*found, strict=True))
    end_x = x + np.array((1, 0, -1, 0))[directions]
    end_y = y + np.array((0, 1, 0, -1))[directions]
    right, ahead, left = (table[(directions + turn) % 4, end_y, end_x] for turn in (1, 0, 3))
    following = np.where(right >= 0, right, np.where(ahead >= 0, ahead, left))
    return np.stack([x, y], axis=1), directions, following.tolist()


def _corners(starts: Points, directions: Points, loop: Points) -> Points:
    """Return the points where a loop turns."""
    turned = directions[loop] != directions[np.roll(loop, 1)]
    corners: Points = starts[loop[turned]]
    return corners


def _area(points: Points) -> float:
    """Return twice the area of a polygon; positive if it is clockwise, with y downwards."""
    x, y = points.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _find_furthest(points: Floats, first: int, last: int) -> tuple[int, float]:
    """Return the index and the distance of the point furthest from the line through two points."""
    along = points[last] - points[first]
    apart = points[first + 1 : last] - points[first]
    length = float(np.hypot(*along))
    if length:
        distances = np.abs(apart[:, 0] * along[1] - apart[:, 1] * along[0]) / length
    else:
        distances = np.hypot(apart[:, 0], apart[:, 1])
    furthest = int(distances.argmax())
    return first + 1 + furthest, float(distances[furthest])
