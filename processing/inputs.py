"""What a person asks for, turned into what a worker runs: a frozen recipe and the pictures it refers to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from accounts.models import User
from drive import services as drive
from drive.models import File
from ipau.common.errors import Invalid, NotFound
from market.models import Version
from processing import fleet
from workers import engine, registry
from workers.recipe import Recipe, Step
from workers.registry import ParamsInvalid

MAX_RESOURCES = 1000


@dataclass(frozen=True)
class Prepared:
    """A recipe whose parameters have been checked, with the digests of the pictures they refer to."""

    recipe: Recipe
    fingerprint: str
    resources: dict[str, list[str]]
    queue: str


def prepare(
    *,
    owner: User | None,
    version: Version,
    params: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
) -> Prepared:
    """Check parameters against a version and freeze them.

    Args:
        owner: whose folders the parameters may refer to; None: nobody's.
        params: as a form or the API sent them; what is missing takes its default.
        own: those among them that are meant for one picture only.

    Raises:
        Invalid: a parameter is wrong. `fields` has a sentence for each.
    """
    template = Recipe.model_validate(version.recipe)
    last = len(template.steps) - 1
    resources: dict[str, list[str]] = {}
    steps = []
    for index, step in enumerate(template.steps):
        # What the version fixes wins over what a person sends; the open parameters are the last step's.
        given = {**params, **step.params} if index == last else step.params
        checked = _check(step.operation, given)
        for name in registry.get(step.operation).folders():
            if own and name in own:
                text = _("This setting is the same for all pictures of a job.")
                raise Invalid(text, code="invalid_input", fields={name: text})
            if checked.get(name):
                resources[name] = _pictures(owner, name, checked[name])
        steps.append(Step(operation=step.operation, params=checked))
    recipe = Recipe(steps=tuple(steps))
    return Prepared(recipe, engine.fingerprint(recipe), resources, _queue(recipe))


def _check(operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = registry.validate(operation, given).model_dump(mode="json")
    except ParamsInvalid as error:
        fields = {name: _(problem.template) % problem.values for name, problem in error.problems.items()}
        raise Invalid(" ".join(fields.values()), code="invalid_input", fields=fields) from error
    return checked


def _pictures(owner: User | None, name: str, folder_id: object) -> list[str]:
    """Return the digests of a folder's pictures, its sub-folders not included."""
    if owner is None:
        raise Invalid("Sign in to use a folder of your drive.", fields={name: "Sign in first."})
    try:
        folder = drive.get_folder(owner=owner, folder_id=folder_id)
    except NotFound as error:
        raise Invalid(error.message, fields={name: error.message}) from error
    rows = File.objects.filter(owner=owner, folder=folder).runnable().order_by("name", "id")
    digests = list(dict.fromkeys(rows.values_list("blob", flat=True)[: MAX_RESOURCES + 1]))
    if not digests:
        message = f"The folder “{folder.name}” has no pictures."
        raise Invalid(message, fields={name: message})
    if len(digests) > MAX_RESOURCES:
        message = f"The folder “{folder.name}” has more than {MAX_RESOURCES:,} pictures."
        raise Invalid(message, fields={name: message})
    return digests


def queue_of(version: Version) -> str:
    """Return the queue in which jobs of a version would wait now."""
    return _queue(Recipe.model_validate(version.recipe))


def _queue(recipe: Recipe) -> str:
    """Return the queue for a recipe: the GPU's if a step prefers it and a GPU worker is there."""
    wants_gpu = any(registry.get(step.operation).queue == "gpu" for step in recipe.steps)
    return "gpu" if wants_gpu and fleet.is_served("gpu") else "cpu"
