"""Validate the parameters of a job, and build the recipe and image sets that workers run."""

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
    """A recipe with checked parameters, and the digests of images that parameters refer to."""

    recipe: Recipe
    fingerprint: str
    resources: dict[str, list[str]]

    @cached_property
    def queue(self) -> str:
        """The queue that a job would use now, depending on running workers. Previews have their own queue."""
        return _queue(self.recipe)


def prepare(
    *,
    owner: User | None,
    version: Version,
    params: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
) -> Prepared:
    """Check parameters against a version and build the recipe.

    Args:
        owner: parameters may refer to folders of this account. None: to no folders.
        params: as sent by a form or the API. Missing ones get their default.
        own: those of `params` that belong to a single image only.

    Raises:
        Invalid: a parameter is wrong. `fields` has a message for each.
    """
    if own is None:
        # Per-image parameters use the job's version, so this check has already run.
        check_models(user=owner, version=version)
    recipe, named = bind_params(version, params)
    _check_classes(version, recipe)
    resources: dict[str, list[str]] = {}
    for name, folder_id in _folders(recipe, named=named).items():
        if own and name in own:
            text = _("This parameter must be the same for all images of a job.")
            raise Invalid(text, code="invalid_input", fields={name: text})
        if folder_id:
            resources[name] = _image_digests(owner, name, folder_id)
    return Prepared(recipe, engine.fingerprint(recipe), resources)


def queue_of(version: Version) -> str:
    """Return the queue that jobs of a version would use now."""
    return _queue(Recipe.model_validate(version.recipe))


def _queue(recipe: Recipe) -> str:
    """Return the queue for a recipe: `gpu` if a step prefers it and a worker serves it, else `cpu`."""
    wants_gpu = any(_prefers_gpu(step.operation) for step in recipe.steps)
    return "gpu" if wants_gpu and fleet.is_served("gpu") else "cpu"


def memo_key(prepared: Prepared, options: Options, sha256: str) -> str:
    """Return the cache key of a result: a digest (hex) of everything that affects its bytes.

    These are the image's bytes, parameters and version of each step, images that parameters refer to, and
    output options.
    """
    resources = sorted((name, tuple(digests)) for name, digests in prepared.resources.items())
    parts = (sha256, prepared.fingerprint, options.pixels_key(), repr(resources))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _check_classes(version: Version, recipe: Recipe) -> None:
    """Refuse unknown classes before the job starts. In pipelines they fail when the step runs."""
    written = recipe.steps[-1].params.get("classes")
    if not written or version.weights is None:
        return
    try:
        choose_classes(str(written), version.weights.facts.get("classes") or ())
    except OperationError as error:
        raise Invalid(error.message, code=error.code, fields={"classes": error.message}) from error


def _folders(recipe: Recipe, *, named: bool) -> dict[str, object]:
    """Return the values of folder parameters, by the names that the engine uses."""
    names = name_steps(step.operation for step in recipe.steps)
    folders = {}
    for position, (name, step) in enumerate(zip(names, recipe.steps, strict=True)):
        flat = not named and position == len(names) - 1
        for setting in registry.get(step.operation).folders():
            folders[setting if flat else f"{name}.{setting}"] = step.params.get(setting)
    return folders


def _image_digests(owner: User | None, name: str, folder_id: object) -> list[str]:
    """Return the digests of the images of a folder, without subfolders."""
    if owner is None:
        raise Invalid("Sign in to use a folder of your drive.", fields={name: "Sign in first."})
    try:
        folder = drive.get_folder(owner=owner, folder_id=folder_id)
    except NotFound as error:
        raise Invalid(error.message, fields={name: error.message}) from error
    rows = File.objects.filter(owner=owner, folder=folder).runnable().order_by("name", "id")
    digests = list(dict.fromkeys(rows.values_list("blob", flat=True)[: MAX_RESOURCES + 1]))
    if not digests:
        message = f"The folder “{folder.name}” has no images."
        raise Invalid(message, fields={name: message})
    if len(digests) > MAX_RESOURCES:
        message = f"The folder “{folder.name}” has more than {MAX_RESOURCES:,} images."
        raise Invalid(message, fields={name: message})
    return digests


def _prefers_gpu(operation: str) -> bool:
    try:
        return registry.get(operation).queue == "gpu"
    except UnknownOperation:
        return False
