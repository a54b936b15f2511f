"""Image classification: run a classifier and return its top classes with confidences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.inference.errors import UNEXPECTED_OUTPUT, ModelFault, check_scores
from workers.inference.sessions import get_session, model_of
from workers.plugin import JSON, Context, OperationError, PictureView
from workers.vision.class_names import name_of
from workers.vision.instances import Original
from workers.vision.letterbox import fill_cropped, fill_stretched

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Guess:
    """A class and its confidence, 0 to 1."""

    class_id: int
    name: str
    confidence: float


def classify(
    picture: PictureView,
    context: Context,
    most: int,
    wanted: Collection[int] | None = None,
    *,
    size: int = 0,
) -> tuple[list[Guess], JSON]:
    """Return the top classes, most confident first, and the same as JSON.

    Reads the model's facts: the input size, `crop_pct`, `stretch`, `resample` and `order` to prepare the
    image, `mean` and `std` of red, green and blue, 0 to 1, and `layout` for `to_shares`.
    Raises OperationError.
    """
    facts = model_of(context).facts
    session = get_session(context)
    side = int(facts["input"]["width"])
    if size not in (0, side) and session.shape[2:] != (None, None):
        text = f"This model only supports {side} × {side} pixels. Set the image size to “auto”."
        raise OperationError(text, code="input_size")
    pixels = prepare(picture, size or side, facts)
    output = session.run(pixels)[0].reshape(-1)
    classes = list(facts.get("classes") or ())
    shares = to_shares(output, str(facts.get("layout", "")), len(classes) or len(output))
    guesses = rank(shares, classes, most, wanted)
    return guesses, describe(guesses, picture, context)


def describe(guesses: Sequence[Guess], picture: PictureView, context: Context) -> JSON:
    """Return classes with confidences as JSON, most confident first."""
    predictions: list[JSON] = [
        {"class": guess.name, "class_id": guess.class_id, "confidence": round(guess.confidence, 5)}
        for guess in guesses
    ]
    return {
        "image": Original.of(picture, context).size(),
        "top": guesses[0].name if guesses else None,
        "confidence": round(guesses[0].confidence, 5) if guesses else None,
        "predictions": predictions,
    }


def prepare(picture: PictureView, side: int, facts: Mapping[str, Any]) -> Floats:
    """Return an image as input of a classifier, (1, channels, side, side).

    Models without preprocessing facts get the center square, and Vision Transformers the whole image,
    resized to a square.
    """
    fill = fill_stretched if facts.get("stretch", facts.get("family") == "vit") else fill_cropped
    crop, resample = facts.get("crop_pct") or 1.0, facts.get("resample") or "bilinear"
    pixels = fill(picture, side, facts["input"]["channels"], crop, resample)
    pixels = normalize(pixels, facts.get("mean"), facts.get("std"))
    return np.ascontiguousarray(pixels[:, ::-1]) if facts.get("order") == "bgr" else pixels


def normalize(pixels: Floats, mean: list[float] | None, std: list[float] | None) -> Floats:
    """Subtract the mean and divide by the standard deviation of each channel. `pixels` is (1, 3, h, w)."""
    if mean is not None:
        pixels = pixels - np.asarray(mean, np.float32).reshape(1, -1, 1, 1)
    if std is not None:
        pixels = pixels / np.asarray(std, np.float32).reshape(1, -1, 1, 1)
    return pixels


def to_shares(output: Floats, layout: str, count: int) -> Floats:
    """Return the confidence of each of `count` classes, 0 to 1, from the output (n) of a classifier.

    A single number for two classes is the confidence of the second class.

    Args:
        layout: "logits" (softmax), "sigmoid" (independent logits), anything else for probabilities.

    Raises:
        ModelFault: the number of values does not match the number of classes, or a value is not finite.
    """
    if not len(output) or (len(output) != count and (len(output), count) != (1, 2)):
        raise ModelFault(UNEXPECTED_OUTPUT)
    check_scores(output)
    # The softmax of a single logit is always 1.
    if layout == "sigmoid" or (layout == "logits" and len(output) == 1):
        shares = sigmoid(output)
    else:
        shares = softmax(output) if layout == "logits" else np.clip(output, 0, 1)
    return np.array([1 - shares[0], shares[0]], np.float32) if len(output) < count else shares


def sigmoid(logits: Floats) -> Floats:
    """Return the sigmoid of each logit."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -60, 60))), np.float32)


def softmax(logits: Floats) -> Floats:
    """Return the softmax of logits (n)."""
    powers = np.exp(logits - logits.max())
    shares: Floats = powers / powers.sum()
    return shares


def rank(shares: Floats, names: list[str], most: int, wanted: Collection[int] | None) -> list[Guess]:
    """Return at most `most` classes of `wanted`, most confident first."""
    order = [int(index) for index in np.argsort(-shares, kind="stable") if wanted is None or index in wanted]
    return [Guess(index, name_of(names, index), float(shares[index])) for index in order[:most]]
