"""Non-maximum suppression (NMS) of boxes and rotated boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
Bits = NDArray[np.bool_]

_BLOCK = 256
_EPSILON = np.float32(1e-7)


def suppress(boxes: Floats, scores: Floats, iou: float, most: int) -> Indices:
    """Return the indices of the boxes to keep (n, 4: left, top, right, bottom), most confident first.

    Greedy NMS: drop a box if its IoU with a kept, more confident box is above `iou`. Keeps at most `most`.
    """
    order: Indices = np.argsort(-scores, kind="stable")
    kept: Indices = np.empty(0, np.intp)
    for start in range(0, len(order), _BLOCK):
        if len(kept) >= most:
            break
        block = order[start : start + _BLOCK]
        block = block[~_overlap(boxes[kept], boxes[block], iou).any(axis=0)]
        kept = np.concatenate([kept, block[_choose(_overlap(boxes[block], boxes[block], iou))]])
    return kept[:most]


def suppress_rotated(boxes: Floats, scores: Floats, iou: float, most: int) -> Indices:
    """Return the same for boxes (n, 5: center x, y, width, height, angle in radians), by probabilistic IoU.

    Fast NMS, not greedy: drop a box if it overlaps any more confident box, kept or not. Bolya et al. 2019,
    https://arxiv.org/abs/1904.02689.
    """
    order: Indices = np.argsort(-scores, kind="stable")
    ordered = boxes[order]
    kept: list[Indices] = []
    count = 0
    for start in range(0, len(order), _BLOCK):
        block = ordered[start : start + _BLOCK]
        overlaps = probiou(ordered[: start + len(block)], block) > iou
        is_better = np.arange(start + len(block))[:, None] < np.arange(start, start + len(block))[None]
        stays = ~(overlaps & is_better).any(axis=0)
        kept.append(order[start : start + len(block)][stays])
        count += int(stays.sum())
        if count >= most:
            break
    return np.concatenate(kept)[:most] if kept else np.empty(0, np.intp)


def probiou(first: Floats, second: Floats) -> Floats:
    """Return the probabilistic IoU (n, m) of rotated boxes, 0 to 1: the similarity of their Gaussians.

    Llerena et al. 2021, https://arxiv.org/abs/2106.06072.
    """
    a1, b1, c1 = (part[:, None] for part in _covariance(first))
    a2, b2, c2 = (part[None] for part in _covariance(second))
    across, down = (first[:, axis, None] - second[None, :, axis] for axis in (0, 1))
    spread = (a1 + a2) * (b1 + b2) - (c1 + c2) ** 2
    near = ((a1 + a2) * down**2 + (b1 + b2) * across**2) / (spread + _EPSILON) * 0.25
    skewed = ((c1 + c2) * -across * down) / (spread + _EPSILON) * 0.5
    own = np.sqrt(np.maximum(a1 * b1 - c1**2, 0) * np.maximum(a2 * b2 - c2**2, 0))
    sizes = np.log(np.maximum(spread / (4 * own + _EPSILON) + _EPSILON, _EPSILON)) * 0.5
    distance = np.clip(near + skewed + sizes, _EPSILON, 100)
    similar: Floats = 1 - np.sqrt(1 - np.exp(-distance) + _EPSILON)
    return similar


def _choose(overlapping: Bits) -> Indices:
    """Return the indices of the boxes that greedy NMS keeps, from their overlaps, in order of confidence."""
    stays = np.ones(len(overlapping), bool)
    for index, others in enumerate(overlapping):
        if stays[index]:
            stays[index + 1 :] &= ~others[index + 1 :]
    return np.flatnonzero(stays)


def _overlap(first: Floats, second: Floats, iou: float) -> Bits:
    """Return whether the IoU of boxes (n, 4) and (m, 4) is above `iou`: (n, m)."""
    left, top, right, bottom = (first[:, side, None] for side in range(4))
    across = np.minimum(right, second[:, 2]) - np.maximum(left, second[:, 0])
    down = np.minimum(bottom, second[:, 3]) - np.maximum(top, second[:, 1])
    shared = np.maximum(across, 0) * np.maximum(down, 0)
    areas = (second[:, 2] - second[:, 0]) * (second[:, 3] - second[:, 1])
    # No division, so boxes without area never overlap.
    over: Bits = shared > iou * ((right - left) * (bottom - top) + areas - shared)
    return over


def _covariance(boxes: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the covariance matrices [[a, c], [c, b]] of boxes as Gaussians."""
    wide: Floats = boxes[:, 2] ** 2 / np.float32(12)
    high: Floats = boxes[:, 3] ** 2 / np.float32(12)
    cos: Floats = np.cos(boxes[:, 4])
    sin: Floats = np.sin(boxes[:, 4])
    return wide * cos**2 + high * sin**2, wide * sin**2 + high * cos**2, (wide - high) * cos * sin
