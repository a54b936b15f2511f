"""Whether a page can filter and redraw detections in the browser, without another run.

A pipeline stores only its last image. The detections of one step can be drawn over that image if the step saw
the same image. They can be drawn over the original if no other step has changed positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from market.models import Weights
from processing.models import Item
from processing.reporting.progress import picture_of
from workers import registry
from workers.plugin import Kept
from workers.recipe import Recipe, name_steps
from workers.registry import ParamsInvalid, UnknownOperation
from workers.tasks import FINDERS


@dataclass(frozen=True)
class Narrowing:
    """Which detections of an item can be filtered, and the image to draw them over.

    Args:
        part: key of the step in the data of the item; empty: the data itself.
        over: the image to draw over.
        hides: other steps changed the image, and the drawing does not show their changes.
    """

    part: str = ""
    over: Literal["original", "result"] = "original"
    hides: bool = False


def has_original(item: Item) -> bool:
    """Return whether the input image of an item can still be shown."""
    file = item.input_file
    # The file may have been replaced since.
    return file is not None and file.trashed_at is None and file.blob_id == item.blob_id


def narrowing_of(item: Item) -> Narrowing | None:
    """Return how the detections of an item can be filtered, or None if they cannot be drawn reliably.

    The item must have its results prefetched as `delivered`. Pipelines need one query.
    """
    data = item.output
    if not isinstance(data, dict) or not has_original(item):
        return None
    recipe = Recipe.model_validate(item.recipe or item.job.recipe)
    if len(recipe.steps) == 1:
        return Narrowing() if "predictions" in data else None
    models = {one.digest: one for one in Weights.objects.filter(digest__in=recipe.weights())}
    locating = [
        position
        for position, step in enumerate(recipe.steps)
        if step.weights in models and models[step.weights].task in FINDERS
    ]
    if len(locating) != 1:
        return None
    try:
        effects = _effects_of(recipe, models)
    except (UnknownOperation, ParamsInvalid):
        return None
    name = name_steps(step.operation for step in recipe.steps)[locating[0]]
    # With data of only one step, they are the data of the item.
    part = name if name in data else ""
    detections = data[part] if part else data
    return _narrow(item, part, detections, effects, locating[0]) if "predictions" in detections else None


def _effects_of(recipe: Recipe, models: dict[str, Weights]) -> list[Kept]:
    effects = []
    for step in recipe.steps:
        params = registry.validate(step.operation, step.params)
        facts = models[step.weights].facts if step.weights in models else {}
        effects.append(registry.get(step.operation).keeps(params, facts))
    return effects


def _narrow(
    item: Item, part: str, detections: Mapping[str, Any], effects: Sequence[Kept], position: int
) -> Narrowing | None:
    others = [*effects[:position], *effects[position + 1 :]]
    result = picture_of(item)
    if result is not None and all(one == "picture" for one in effects[position:]):
        seen = (result.file.width, result.file.height)
        size = (detections["image"]["width"], detections["image"]["height"])
        return Narrowing(part, "result") if seen == size else None
    if "nothing" in others or not _is_alike(item, detections["image"]):
        return None
    return Narrowing(part, "original", hides="places" in others)


def _is_alike(item: Item, seen: Mapping[str, Any]) -> bool:
    """Return whether the image that a step saw has the aspect ratio of the original, to one pixel."""
    file = item.input_file
    if file is None or not file.width or not file.height:
        return False
    return bool(abs(file.height * seen["width"] / file.width - seen["height"]) <= 1)
