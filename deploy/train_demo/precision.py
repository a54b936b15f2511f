"""Mean average precision (mAP) of detectors and segmenters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, ...]
Bits = NDArray[np.bool_]
# Region of an object: a box, or the pixels of a mask.
Region = TypeVar("Region")


def mean_average_precision(
    found: list[list[tuple[float, int, Region]]],
    truth: list[list[tuple[int, Region]]],
    share: Callable[[Region, Region], float],
    *,
    classes: int,
    overlap: float = 0.5,
) -> float:
    """Return mAP: the mean over classes of the area under the interpolated precision-recall curve.

    Everingham et al., "The PASCAL VOC challenge", 2010 (all points).

    Args:
        found: for each image, its detections as (confidence, class, region).
        truth: for each image, its objects as (class, region).
        share: returns the intersection over union (IoU) of two regions.
        overlap: IoU threshold for a correct detection.
    """
    precisions = [_average_precision(class_id, found, truth, share, overlap) for class_id in range(classes)]
    return float(np.mean([value for value in precisions if not math.isnan(value)]))


def _average_precision(
    class_id: int,
    found: list[list[tuple[float, int, Region]]],
    truth: list[list[tuple[int, Region]]],
    share: Callable[[Region, Region], float],
    overlap: float,
) -> float:
    wanted = [[region for kind, region in each if kind == class_id] for each in truth]
    total = sum(len(regions) for regions in wanted)
    taken: list[set[int]] = [set() for _ in wanted]
    ranked = sorted(
        (
            (c, index, region)
            for index, each in enumerate(found)
            for c, kind, region in each
            if kind == class_id
        ),
        key=lambda one: one[:2],
        reverse=True,
    )
    if not total:
        return math.nan
    hits = []
    for _, index, region in ranked:
        scores = [share(region, other) for other in wanted[index]]
        best = int(np.argmax(scores)) if scores else -1
        hit = best >= 0 and scores[best] >= overlap and best not in taken[index]
        hits.append(hit)
        if hit:
            taken[index].add(best)
    right = np.cumsum(hits)
    recall = right / total
    precision = right / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(np.concatenate([[0.0], recall]))
    return float(np.sum(steps * envelope))


def share_boxes(a: Box, b: Box) -> float:
    """Return the IoU of two boxes (left, top, right, bottom)."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / area if area > 0 else 0.0


def share_pixels(a: Bits, b: Bits) -> float:
    """Return the IoU of two masks of the same size."""
    together = int((a | b).sum())
    return int((a & b).sum()) / together if together else 0.0
