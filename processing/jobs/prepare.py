"""What a person asks for, turned into what a worker runs: a frozen recipe and the pictures it refers to."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.utils.translation import gettext as _

from accounts.models import User
from drive.files import services as drive
from drive.models import File
from ipau.common.errors import Invalid, NotFound
from market.models import Version
from market.pipelines.bind_params import bind_params
from market.pipelines.model_steps import check_models
from processing.execution.output_options import Options
from processing.fleet import registry as fleet
from workers import engine, registry
from workers.plugin import OperationError
from workers.recipe import Recipe, name_steps
from workers.registry import UnknownOperation
from workers.vision.class_names import choose_classes

MAX_RESOURCES = 1000


@dataclass(frozen=True)
class Prepared:
    """A recipe whose parameters have been checked, with the digests of the pictures they refer to."""

    recipe: Recipe
    fingerprint: str
    resources: dict[str, list[str]]

    @cached_property
    def queue(self) -> str:
        """The queue in which it would wait now, for which the fleet is looked at. A preview has its own."""
        return _queue(self.recipe)


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
    if own is None:
        # Those of single pictures run what the job runs.
        check_models(user=owner, version=version)
    recipe, named = bind_params(version, params)
    _check_classes(version, recipe)
    resources: dict[str, list[str]] = {}
    for name, folder_id in _folders(recipe, named=named).items():
        if own and name in own:
            text = _("This setting is the same for all pictures of a job.")
            raise Invalid(text, code="invalid_input", fields={name: text})
        if folder_id:
            resources[name] = _pictures(owner, name, folder_id)
    return Prepared(recipe, engine.fingerprint(recipe), resources)


def queue_of(version: Version) -> str:
    """Return the queue in which jobs of a version would wait now."""
    return _queue(Recipe.model_validate(version.recipe))


def _queue(recipe: Recipe) -> str:
    """Return the queue for a recipe: the GPU's if a step prefers it and a GPU worker is there."""
    wants_gpu = any(_prefers_gpu(step.operation) for step in recipe.steps)
    return "gpu" if wants_gpu and fleet.is_served("gpu") else "cpu"


def memo_key(prepared: Prepared, options: Options, sha256: str) -> str:
    """Return the digest (hex) of all that decides a picture's result.

    That is its bytes, the settings and versions of each step, the pictures that settings refer to, and how
    the result is written.
    """
    resources = sorted((name, tuple(digests)) for name, digests in prepared.resources.items())
    parts = (sha256, prepared.fingerprint, options.pixels_key(), repr(resources))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _check_classes(version: Version, recipe: Recipe) -> None:
    """Refuse an unknown class at once instead of for each picture; those of a pipeline fail when they run."""
    written = recipe.steps[-1].params.get("classes")
    if not written or version.weights is None:
        return
    try:
        choose_classes(str(written), version.weights.facts.get("classes") or ())
    except OperationError as error:
        raise Invalid(error.message, code=error.code, fields={"classes": error.message}) from error


def _folders(recipe: Recipe, *, named: bool) -> dict[str, object]:
    """Return what settings that take a folder hold, by the names under which the engine hands them out."""
    names = name_steps(step.operation for step in recipe.steps)
    found = {}
    for position, (name, step) in enumerate(zip(names, recipe.steps, strict=True)):
        flat = not named and position == len(names) - 1
        for setting in registry.get(step.operation).folders():
            found[setting if flat else f"{name}.{setting}"] = step.params.get(setting)
    return found


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


def _prefers_gpu(operation: str) -> bool:
    try:
        return registry.get(operation).queue == "gpu"
    except UnknownOperation:
        return False
