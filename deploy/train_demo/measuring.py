"""How well a converted model does on pictures that it has never seen, run as a job would run it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from deploy.train_demo import pictures
from deploy.train_demo.precision import mean_average_precision
from workers import engine
from workers.plugin import Context
from workers.recipe import Recipe
from workers.weights.bundle import FolderModel

PICTURES = 400
# Larger than what models are trained on: they see a picture as people hand it over, reduced by our own code.
SIDE = 320


def measure(folder: Path) -> float:
    """Return mAP at an overlap of one half."""
    found, truth = [], []
    for seed in range(PICTURES):
        picture, wanted = pictures.draw(seed, SIDE)
        answer = _run(folder, picture, confidence=0.05)
        found.append([_box(each) for each in answer["predictions"]])
        truth.append(wanted)
    return mean_average_precision(found, truth)


def _run(folder: Path, picture: Any, **params: Any) -> Any:
    model = FolderModel(folder)
    written = io.BytesIO()
    picture.save(written, "PNG")
    recipe = Recipe.single(model.facts["family"], params, weights=model.key)
    return engine.run(recipe, written.getvalue(), Context(models={model.key: model})).data


def _box(found: dict[str, Any]) -> tuple[float, int, tuple[float, ...]]:
    left, top = found["x"] - found["width"] / 2, found["y"] - found["height"] / 2
    box = (left, top, left + found["width"], top + found["height"])
    return found["confidence"], found["class_id"], tuple(value / SIDE for value in box)
