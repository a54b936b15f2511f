"""How good a detector is: average precision, from what it found and what there is."""

from __future__ import annotations

import math

import numpy as np

from deploy.train_demo.pictures import CLASSES, Shape


def mean_average_precision(
    found: list[list[tuple[float, int, tuple[float, ...]]]], truth: list[list[Shape]], *, overlap: float = 0.5
) -> float:
    """Return mAP: the mean over classes of the area under the interpolated precision-recall curve.

    Everingham et al., "The PASCAL VOC challenge", 2010 (all points).

    Args:
        found: of each picture, (confidence, class, box); boxes in parts of the side.
    """
    precisions = [_average_precision(class_id, found, truth, overlap) for class_id in range(len(CLASSES))]
    return float(np.mean([value for value in precisions if not math.isnan(value)]))


def _average_precision(
    class_id: int,
    found: list[list[tuple[float, int, tuple[float, ...]]]],
    truth: list[list[Shape]],
    overlap: float,
) -> float:
    wanted = [[shape.box for shape in shapes if shape.class_id == class_id] for shapes in truth]
    total = sum(len(boxes) for boxes in wanted)
    taken: list[set[int]] = [set() for _ in wanted]
    ranked = sorted(
        ((c, index, box) for index, each in enumerate(found) for c, k, box in each if k == class_id),
        reverse=True,
    )
    if not total:
        return math.nan
    hits = []
    for _, index, box in ranked:
        scores = [intersection_over_union(box, other) for other in wanted[index]]
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


def intersection_over_union(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return what two boxes share, over what they cover together."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / area if area > 0 else 0.0
