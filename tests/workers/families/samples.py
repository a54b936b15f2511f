"""One model of each task with constant detections, for images of any size."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.workers.families.models import MemoryModel, facts_of, fixed

NAMES = ("cat", "dog", "traffic light")
SIDE = 64
# Center, width, height in the input's pixels, and the class. The last two overlap: only one of them stays.
_THINGS = ((20, 30, 24, 20, 0), (45, 34, 18, 26, 1), (32, 22, 14, 10, 2), (33, 22, 14, 10, 2))
_SCORES = (0.9, 0.8, 0.6, 0.4)


def anchors(more: np.ndarray | None = None) -> np.ndarray:
    """Return detections between empty columns, (1, 4 + classes + more, 12)."""
    rows = np.zeros((4 + len(NAMES) + (0 if more is None else more.shape[1]), 12), np.float32)
    for column, (x, y, width, height, class_id) in enumerate(_THINGS):
        rows[:4, 3 * column] = (x, y, width, height)
        rows[4 + class_id, 3 * column] = _SCORES[column]
        if more is not None:
            rows[4 + len(NAMES) :, 3 * column] = more[column]
    return rows[None]


def end_to_end() -> np.ndarray:
    rows = [
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2, score, class_id)
        for (x, y, w, h, class_id), score in zip(_THINGS, _SCORES, strict=True)
    ]
    return np.array([rows], np.float32)


def yolov5() -> np.ndarray:
    rows = np.zeros((9, 5 + len(NAMES)), np.float32)
    for row, (x, y, width, height, class_id) in enumerate(_THINGS):
        rows[2 * row, :5] = (x, y, width, height, 0.95)
        rows[2 * row, 5 + class_id] = _SCORES[row]
    return rows[None]


def detector(**settings: Any) -> MemoryModel:
    return fixed(facts_of("detect", NAMES, SIDE, layout="anchors"), anchors(), **settings)


def segmenter() -> MemoryModel:
    """Return a segmenter with discs around the box centers as masks."""
    y, x = np.mgrid[0:16, 0:16] + 0.5
    discs = [1 - ((x - cx / 4) / (w / 8)) ** 2 - ((y - cy / 4) / (h / 8)) ** 2 for cx, cy, w, h, _ in _THINGS]
    facts = facts_of("segment", NAMES, SIDE, layout="anchors")
    return fixed(facts, anchors(np.eye(4)), np.stack(discs)[None])


def poser() -> MemoryModel:
    """Return a pose model with 17 points around each box center, the last with low confidence."""
    turn = np.linspace(0, 2 * np.pi, 17)
    points = [
        np.stack(
            [x + w / 3 * np.cos(turn), y + h / 3 * np.sin(turn), np.linspace(1, 0.1, 17)], axis=1
        ).ravel()
        for x, y, w, h, _ in _THINGS
    ]
    facts = facts_of("pose", NAMES, SIDE, layout="anchors", keypoints=[17, 3])
    return fixed(facts, anchors(np.stack(points)))


def turned() -> MemoryModel:
    angles = np.array([[0.4], [2.0], [-0.3], [-0.3]])
    return fixed(facts_of("obb", NAMES, SIDE, layout="anchors"), anchors(angles))


def classifier() -> MemoryModel:
    facts = facts_of("classify", NAMES, SIDE, layout="probabilities")
    return fixed(facts, np.array([[0.2, 0.7, 0.1]]))


def every_task() -> dict[str, MemoryModel]:
    return {
        "detect": detector(),
        "segment": segmenter(),
        "pose": poser(),
        "obb": turned(),
        "classify": classifier(),
    }
