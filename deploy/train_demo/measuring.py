"""Evaluation of a converted model on test images, with the engine that runs jobs."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from workers import engine
from workers.bundle import FolderModel
from workers.engine import RecipeResult
from workers.plugin import Context
from workers.recipe import Recipe


@dataclass(frozen=True)
class Measured:
    """A metric, and its baseline without training."""

    value: float
    untaught: float = 0.0

    @property
    def gain(self) -> float:
        """Improvement over the baseline."""
        return self.value - self.untaught


def run(folder: Path, picture: Image.Image, **params: Any) -> RecipeResult:
    """Run a converted model on an image."""
    model = FolderModel(folder)
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    recipe = Recipe.single(model.facts["family"], params, weights=model.key)
    return engine.run(recipe, encoded.getvalue(), Context(models={model.key: model}))


def top1_accuracy(folder: Path, draw: Callable[[int], tuple[Image.Image, int]], count: int) -> Measured:
    """Return the top-1 accuracy of a classifier on `count` test images.

    Args:
        draw: returns the image of a seed and the index of its class.
    """
    drawn = [draw(seed) for seed in range(count)]
    correct = [_predict_class(folder, picture) == class_id for picture, class_id in drawn]
    return Measured(sum(correct) / count)


def _predict_class(folder: Path, picture: Image.Image) -> int:
    data: Any = run(folder, picture).data
    first: int = data["predictions"][0]["class_id"]
    return first
