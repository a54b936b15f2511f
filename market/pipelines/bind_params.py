"""Bind and validate request parameters to the steps of a version."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from ipau.common.errors import Invalid
from market.listings.io_schema import NAME, STEP, STEPS
from market.models import Version
from market.pipelines.steps import StepProblems, check_params, check_steps
from workers.recipe import Recipe, Step, name_steps
from workers.registry import UnknownOperation


def bind_params(version: Version, params: Mapping[str, Any]) -> tuple[Recipe, bool]:
    """Return the validated recipe, and whether parameters are named `step.parameter` (pipelines)."""
    template = Recipe.model_validate(version.recipe)
    if STEPS in version.params_schema:
        titles = [step["title"] for step in version.params_schema[STEPS]]
        return check_steps(_split_by_step(version, template, params), titles), True
    last = len(template.steps) - 1
    steps = []
    for position, step in enumerate(template.steps):
        # Fixed parameters of the version win. Request parameters belong to the last step.
        values = {**params, **step.params} if position == last else step.params
        try:
            steps.append(step.model_copy(update={"params": check_params(step.operation, values)}))
        except UnknownOperation as error:
            text = _("The app “%(key)s” no longer exists.") % {"key": step.operation}
            raise Invalid(text, code=error.code) from error
    return Recipe(steps=tuple(steps)), False


def _split_by_step(version: Version, template: Recipe, params: Mapping[str, Any]) -> list[Step]:
    """Return a pipeline's steps, in which request parameters replace the author's values.

    Raises:
        Invalid: a parameter belongs to no step.
    """
    names = name_steps(step.operation for step in template.steps)
    values = [dict(step.params) for step in template.steps]
    problems = StepProblems(template.steps)
    for name, value in params.items():
        about = version.params_schema["properties"].get(name)
        step, _dot, setting = name.partition(".")
        if about is not None:
            values[about[STEP]][about[NAME]] = value
        elif step not in names or not setting:
            problems.add_unknown(name)
        elif setting not in template.steps[names.index(step)].params:
            # The check of the step reports the unknown parameter.
            values[names.index(step)][setting] = value
    problems.check()
    return [step.model_copy(update={"params": own}) for step, own in zip(template.steps, values, strict=True)]
