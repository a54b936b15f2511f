"""Where what a model found can be drawn anew, so that a page narrows it without another run.

Of what the steps of a pipeline make only the last picture is kept. What one step found can be drawn over that
where it is the picture which the step saw; over the original where no other step has moved anything.
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
    """Which data are narrowed: the item's, or a `part` of it. They are drawn over the original or the result.

    `hides`: other steps have changed the picture, which is not seen in what is drawn.
    """

    part: str = ""
    over: Literal["original", "result"] = "original"
    hides: bool = False


def has_original(item: Item) -> bool:
    """Tell whether the picture that an item was made of can still be shown."""
    file = item.input_file
    # A file may have got other bytes since.
    return file is not None and file.trashed_at is None and file.blob_id == item.blob_id


def narrowing_of(item: Item) -> Narrowing | None:
    """Say how what was found in a picture can be narrowed; None where it cannot be drawn for sure.

    The item must have come with its results as `delivered`. One query, for pipelines alone.
    """
    found = item.output
    if not isinstance(found, dict) or not has_original(item):
        return None
    recipe = Recipe.model_validate(item.recipe or item.job.recipe)
    if len(recipe.steps) == 1:
        return Narrowing() if "predictions" in found else None
    models = {one.digest: one for one in Weights.objects.filter(digest__in=recipe.weights())}
    finding = [
        position
        for position, step in enumerate(recipe.steps)
        if step.weights in models and models[step.weights].task in FINDERS
    ]
    if len(finding) != 1:
        return None
    try:
        kept = _kept_by(recipe, models)
    except (UnknownOperation, ParamsInvalid):
        return None
    name = name_steps(step.operation for step in recipe.steps)[finding[0]]
    # The data of a single step are the item's own.
    part = name if name in found else ""
    told = found[part] if part else found
    return _narrow(item, part, told, kept, finding[0]) if "predictions" in told else None


def _kept_by(recipe: Recipe, models: dict[str, Weights]) -> list[Kept]:
    found = []
    for step in recipe.steps:
        params = registry.validate(step.operation, step.params)
        facts = models[step.weights].facts if step.weights in models else {}
        found.append(registry.get(step.operation).keeps(params, facts))
    return found


def _narrow(
    item: Item, part: str, told: Mapping[str, Any], kept: Sequence[Kept], finding: int
) -> Narrowing | None:
    others = [*kept[:finding], *kept[finding + 1 :]]
    result = picture_of(item)
    if result is not None and all(one == "picture" for one in kept[finding:]):
        seen = (result.file.width, result.file.height)
        size = (told["image"]["width"], told["image"]["height"])
        return Narrowing(part, "result") if seen == size else None
    if "nothing" in others or not _is_alike(item, told["image"]):
        return None
    return Narrowing(part, "original", hides="places" in others)


def _is_alike(item: Item, seen: Mapping[str, Any]) -> bool:
    """Tell whether the picture that a step saw has the original's shape, to a pixel."""
    file = item.input_file
    if file is None or not file.width or not file.height:
        return False
    return bool(abs(file.height * seen["width"] / file.width - seen["height"]) <= 1)
