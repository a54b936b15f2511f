"""Semantic segmentation: run a model, and return the class of each pixel."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.inference.errors import UNEXPECTED_OUTPUT, ModelFault, check_finite
from workers.inference.sessions import Session
from workers.plugin import PictureView
from workers.vision.class_names import name_of
from workers.vision.classify import normalize, sigmoid
from workers.vision.instances import Instance
from workers.vision.letterbox import open_whole
from workers.vision.masks import Mask

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Size = tuple[int, int]

MOST_CLASSES = 255
# Label of pixels without a class: the ignore index of training.
NO_CLASS = 255
# Input sides are a multiple of this for networks with dynamic axes.
MULTIPLE = 32
UNKNOWN_CLASS = "The model returned the class number {label} for this image, but it has {count} classes."


def label(
    picture: PictureView,
    session: Session,
    own: Size,
    mean: list[float] | None,
    std: list[float] | None,
    scores: str = "",
) -> tuple[Bytes, Floats]:
    """Return the class of each pixel (height, width), 255 for none, and its confidence.

    Both have the size of the input, `own`. For dynamic axes, it has the longer side of `own` and the aspect
    ratio of the image. `mean` and `std` are of red, green and blue from 0 to 1. `scores` is for `choose`.
    Raises ModelFault.
    """
    output, size = _run(picture, session, own, mean, std)
    if output.ndim != 4 or len(output) != 1 or 0 in output.shape:
        raise ModelFault(UNEXPECTED_OUTPUT)
    return choose(output[0], size, scores)


def read_labels(
    picture: PictureView,
    session: Session,
    own: Size,
    mean: list[float] | None,
    std: list[float] | None,
    count: int,
) -> tuple[Bytes, Floats]:
    """Return the same for a model that returns class numbers, at the size of the output.

    All confidences are 1. Numbers below 0, and 255 (the ignore index), are no class.

    Args:
        count: number of classes; 0 if unknown.

    Raises:
        ModelFault: a class number does not exist.
    """
    output, _ = _run(picture, session, own, mean, std)
    sides = [side for side in output.shape if side != 1]
    if len(sides) > 2 or len(output.shape) < 2 or 0 in sides:
        raise ModelFault(UNEXPECTED_OUTPUT)
    check_finite(output)
    height, width = sides if len(sides) == 2 else _two_sides(output.shape)
    labels = np.rint(output.reshape(height, width))
    labels[(labels < 0) | (labels == NO_CLASS)] = NO_CLASS
    highest = int(labels[labels != NO_CLASS].max(initial=0))
    if highest >= (count or MOST_CLASSES):
        raise ModelFault(UNKNOWN_CLASS.format(label=highest, count=count or f"at most {MOST_CLASSES}"))
    return labels.astype(np.uint8), np.ones((height, width), np.float32)


def fit_input(picture: Size, own: Size, shape: Sequence[int | None]) -> Size:
    """Return the input size: that of the model or, for dynamic axes, with the aspect ratio of the image."""
    if shape[2] is not None and shape[3] is not None:
        return shape[3], shape[2]
    scale = max(own) / max(picture)
    sides = (max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in picture)
    width, height = sides
    return width, height


def fill(picture: PictureView, size: Size, channels: int, resampling: Image.Resampling) -> Floats:
    """Return the resized image, RGB or gray: (1, channels, height, width), 0 to 1."""
    pixels = np.asarray(open_whole(picture, channels).resize(size, resampling), np.float32) / np.float32(255)
    return pixels[None, None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)[None]


def choose(logits: Floats, size: Size, scores: str = "") -> tuple[Bytes, Floats]:
    """Return the best class of each pixel and its probability, both (height, width), from (classes, h, w).

    With a single class or independent classes, pixels with a probability of at most 0.5 have no class.
    Classes are resized one after another, so memory does not grow with their number.

    Args:
        scores: "logits", "shares" (probabilities that add up to 1) or "sigmoid" (independent probabilities);
            else detected from the values.

    Raises:
        ModelFault: a value is not finite.
    """
    shares = to_shares(logits, scores)
    labels = np.zeros((size[1], size[0]), np.uint8)
    best = np.full((size[1], size[0]), -1, np.float32)
    for class_id, share in enumerate(shares[:MOST_CLASSES]):
        large = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR))
        better = large > best
        labels[better] = class_id
        best[better] = large[better]
    if len(shares) == 1 or scores == "sigmoid":
        labels[best <= 0.5] = NO_CLASS
    return labels, best


def to_shares(logits: Floats, scores: str = "") -> Floats:
    """Return probabilities (classes, h, w) from scores as in `choose`. Raises ModelFault."""
    # A graph may mask classes with -inf, but each pixel needs at least one finite score.
    best = logits.max(axis=0)
    check_finite(best)
    if scores in ("shares", "sigmoid") or (not scores and _are_shares(logits)):
        return np.clip(logits, 0, 1)
    if len(logits) == 1:
        return sigmoid(logits)
    powers = np.exp(logits - best)
    return np.asarray(powers / powers.sum(axis=0), np.float32)


def find_regions(
    labels: Bytes,
    shares: Floats,
    names: Sequence[str],
    picture: Size,
    *,
    confidence: float,
    wanted: Collection[int] | None = None,
) -> Iterator[Instance]:
    """Yield one instance with all pixels of a class, for each class in the image, largest first.

    A class named background is skipped.
    """
    counts = np.bincount(labels.ravel(), minlength=NO_CLASS + 1)[:NO_CLASS]
    full = np.asarray(Image.fromarray(labels).resize(picture, Image.Resampling.NEAREST))
    for class_id in np.argsort(-counts, kind="stable"):
        name = name_of(names, int(class_id))
        sure = float(shares[labels == class_id].mean()) if counts[class_id] else 0.0
        skipped = wanted is not None and class_id not in wanted
        if sure <= confidence or skipped or name.strip("_ ").casefold() == "background":
            continue
        bits = full == class_id
        rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
        if not len(rows):
            continue
        left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        mask = Mask.of(bits[top:bottom, left:right], left, top)
        yield Instance((left, top, right, bottom), sure, int(class_id), name, mask)


def _two_sides(shape: Sequence[int]) -> tuple[int, int]:
    """Return height and width of label maps where at least one side is 1."""
    return (shape[-3], shape[-2]) if len(shape) == 4 and shape[-1] == 1 else (shape[-2], shape[-1])


def _run(
    picture: PictureView, session: Session, own: Size, mean: list[float] | None, std: list[float] | None
) -> tuple[Floats, Size]:
    """Return the first output for an image, and the size of the input."""
    size = fit_input((picture.width, picture.height), own, session.shape)
    pixels = fill(picture, size, session.shape[1] or 3, Image.Resampling.BILINEAR)
    return session.run(normalize(pixels, mean, std))[0], size


def _are_shares(logits: Floats) -> bool:
    if logits.min() < 0 or logits.max() > 1:
        return False
    return len(logits) == 1 or bool(np.abs(logits.sum(0) - 1).max() < 0.01)
