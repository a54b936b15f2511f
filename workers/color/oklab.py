"""OKLab color space, nearest colors, and k-means clustering of colors."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# Björn Ottosson, «A perceptual color space for image processing», 2020.
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    dtype=np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    dtype=np.float32,
)
_FROM_LAB = np.linalg.inv(_TO_LAB.astype(np.float64)).astype(np.float32)
_FROM_LMS = np.linalg.inv(_TO_LMS.astype(np.float64)).astype(np.float32)
_SEED = 20


def to_oklab(rgb: Bytes) -> Floats:
    """Convert sRGB bytes (..., 3) to OKLab (..., 3): L 0..1, a and b about -0.4..0.4."""
    return np.asarray(np.cbrt(_linear_table()[rgb] @ _TO_LMS.T) @ _TO_LAB.T, dtype=np.float32)


def from_oklab(lab: Floats) -> Bytes:
    """Convert OKLab (..., 3) to sRGB bytes, clipped to the sRGB gamut."""
    linear = np.clip((lab @ _FROM_LAB.T) ** 3 @ _FROM_LMS.T, 0, 1)
    code = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(code * 255), dtype=np.uint8)


def find_nearest(points: Floats, centers: Floats) -> NDArray[np.intp]:
    """Return for each point (n, d) the index of the nearest center (k, d)."""
    nearest = np.empty(len(points), dtype=np.intp)
    half_norms = (centers**2).sum(axis=1) / 2
    for start in range(0, len(points), 65536):
        part = slice(start, start + 65536)
        nearest[part] = np.argmin(half_norms - points[part] @ centers.T, axis=1)
    return nearest


def cluster(points: Floats, k: int, rounds: int = 12) -> Floats:
    """Return at most `k` centers (k, d) of points (n, d) by k-means (Lloyd 1982). Deterministic.

    It starts from k-means++ (Arthur and Vassilvitskii 2007). There are fewer centers if there are fewer
    distinct points.
    """
    centers = _choose_starts(points, k)
    for _ in range(rounds):
        moved = _average_members(points, find_nearest(points, centers), centers)
        shift = float(np.abs(moved - centers).max())
        centers = moved
        if shift < 1e-3:
            break
    return centers


@cache
def _linear_table() -> Floats:
    code = np.arange(256) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _choose_starts(points: Floats, k: int) -> Floats:
    """Return k-means++ starts: each one is drawn with probability proportional to its squared distance."""
    rng = np.random.default_rng(_SEED)
    centers = [points[rng.integers(len(points))]]
    distance = ((points - centers[0]) ** 2).sum(axis=1)
    while len(centers) < k and distance.sum() > 1e-9:
        reached = np.cumsum(distance, dtype=np.float64)
        chosen = points[np.searchsorted(reached, rng.random() * reached[-1], side="right")]
        centers.append(chosen)
        distance = np.minimum(distance, ((points - chosen) ** 2).sum(axis=1))
    return np.array(centers, dtype=np.float32)


def _average_members(points: Floats, member_of: NDArray[np.intp], centers: Floats) -> Floats:
    """Return the mean of each center's points. A center without points stays."""
    k = len(centers)
    counts = np.bincount(member_of, minlength=k)
    sums = [np.bincount(member_of, weights=points[:, axis], minlength=k) for axis in range(points.shape[1])]
    means = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
    return np.where(counts[:, None] > 0, means, centers).astype(np.float32)
