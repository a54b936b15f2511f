"""How well a converted model does on pictures that it has never seen, run as a job would run it."""

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
    """A figure, and what is reached without having learnt anything, where that is not nothing."""

    value: float
    untaught: float = 0.0

    @property
    def gain(self) -> float:
        """What learning was good for."""
        return self.value - self.untaught


def run(folder: Path, picture: Image.Image, **params: Any) -> RecipeResult:
    """Run a converted model over a picture."""
    model = FolderModel(folder)
    written = io.BytesIO()
    picture.save(written, "PNG")
    recipe = Recipe.single(model.facts["family"], params, weights=model.key)
    return engine.run(recipe, written.getvalue(), Context(models={model.key: model}))


def count_right(folder: Path, draw: Callable[[int], tuple[Image.Image, int]], count: int) -> Measured:
    """Return the part of so many pictures whose class a classifier thinks of first (top-1).

    `draw` returns the picture of a seed and the number of its class.
    """
    drawn = [draw(seed) for seed in range(count)]
    right = [_name_first(folder, picture) == kind for picture, kind in drawn]
    return Measured(sum(right) / count)


def _name_first(folder: Path, picture: Image.Image) -> int:
    data: Any = run(folder, picture).data
    first: int = data["predictions"][0]["class_id"]
    return first
