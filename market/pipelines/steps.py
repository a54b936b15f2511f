"""Validate pipeline steps, and merge their parameters into one JSON schema as `step.parameter`."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _

from ipau.common.errors import Invalid
from ipau.common.wording import is_for_programs
from market.listings.io_schema import NAME, STEP, STEPS
from market.models import Version
from workers import registry
from workers.plugin import Family
from workers.recipe import MOST_STEPS, Recipe, Step, find_misfit, name_steps
from workers.registry import ParamsInvalid, SettingProblem, UnknownOperation


def check_params(operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the validated parameters of an operation, with defaults for missing ones.

    Raises:
        UnknownOperation: there is no such operation.
        Invalid: a parameter is wrong. `fields` has a message for each.
    """
    try:
        checked: dict[str, Any] = registry.validate(operation, params).model_dump(mode="json")
    except ParamsInvalid as error:
        fields = {name: _sentence(problem) for name, problem in error.problems.items()}
        raise Invalid(" ".join(fields.values()), code="invalid_input", fields=fields) from error
    return checked


def check_steps(steps: Sequence[Step], titles: Sequence[str] = ()) -> Recipe:
    """Return the steps as a recipe, each with all of its parameters.

    Args:
        titles: titles of the steps. Default: those of their operations.

    Raises:
        Invalid: no steps, too many steps, an unknown operation, wrong parameters, or a step that needs an
            image after one that returns none. `fields` names a parameter as `step.parameter`, a step by
            its name.
    """
    check_number(len(steps))
    problems = StepProblems(steps, titles)
    checked = []
    for position, step in enumerate(steps):
        try:
            params = check_params(step.operation, step.params)
            if step.weights is None and isinstance(registry.get(step.operation), Family):
                # A family needs weights, so it is no app by itself.
                raise UnknownOperation(step.operation)
            checked.append(step.model_copy(update={"params": params}))
        except UnknownOperation:
            problems.add_step(position, _("there is no app “%(key)s”.") % {"key": step.operation[:60]})
        except Invalid as error:
            problems.add_settings(position, error.fields)
    problems.check()
    check_fit(checked, titles)
    return Recipe(steps=tuple(checked))


def check_number(number: int) -> None:
    """Raise Invalid if a pipeline cannot have this number of steps."""
    text = ""
    if number == 0:
        text = _("A pipeline needs at least one step.")
    if number > MOST_STEPS:
        text = _("A pipeline can have at most %(most)d steps. This one has %(n)d.") % {
            "most": MOST_STEPS,
            "n": number,
        }
    if text:
        raise Invalid(text, code="steps", fields={"steps": text})


def check_fit(steps: Sequence[Step], titles: Sequence[str] = ()) -> None:
    """Raise Invalid if a step needs an image and the previous step returns none."""
    operations = [registry.get(step.operation) for step in steps]
    position = find_misfit([operation.outputs for operation in operations])
    if position is None:
        return
    titles = titles or [operation.title for operation in operations]
    text = _(
        "Step %(after)d, %(after_title)s, needs an image, but step %(before)d, %(before_title)s, "
        "returns none."
    ) % {
        "after": position + 1,
        "after_title": _(titles[position]),
        "before": position,
        "before_title": _(titles[position - 1]),
    }
    name = name_steps(step.operation for step in steps)[position]
    raise Invalid(text, code="steps_do_not_fit", fields={name: text})


class StepProblems:
    """Collects problems of steps and their parameters, and raises them together."""

    def __init__(self, steps: Sequence[Step], titles: Sequence[str] = ()) -> None:
        self._titles = titles or [title_of(step.operation) for step in steps]
        self._names = name_steps(step.operation for step in steps)
        self._fields: dict[str, str] = {}
        self._sentences: list[str] = []

    def add_step(self, position: int, text: str) -> None:
        """Add a problem of a whole step."""
        sentence = _("Step %(n)d: %(text)s") % {"n": position + 1, "text": text}
        self._fields[self._names[position]] = sentence
        self._sentences.append(sentence)

    def add_settings(self, position: int, fields: Mapping[str, str]) -> None:
        """Add problems of a step's parameters, by parameter name of the operation."""
        title = _(self._titles[position])
        for name, text in fields.items():
            self._fields[f"{self._names[position]}.{name}" if name else self._names[position]] = text
            self._sentences.append(
                _("Step %(n)d, %(title)s: %(text)s") % {"n": position + 1, "title": title, "text": text}
            )

    def add_unknown(self, name: str) -> None:
        """Add a parameter that belongs to no step."""
        self._fields[name] = _("There is no parameter “%(name)s”.") % {"name": name[:60]}
        self._sentences.append(self._fields[name])

    def check(self, code: str = "invalid_input") -> None:
        """Raise Invalid if there are problems."""
        if self._fields:
            raise Invalid(" ".join(self._sentences), code=code, fields=self._fields)


def title_of(operation: str) -> str:
    """Return an operation's title in English, or its key if the operation no longer exists."""
    try:
        return registry.get(operation).title
    except UnknownOperation:
        return operation


def schema_of(recipe: Recipe, models: Mapping[int, Version] | None = None) -> dict[str, Any]:
    """Return the JSON schema of a pipeline's parameters, named `step.parameter`.

    The values of the recipe become the defaults. They must be validated.

    Args:
        models: model versions by step position. They define the parameters of their steps.
    """
    names = name_steps(step.operation for step in recipe.steps)
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    described = []
    for position, (name, step) in enumerate(zip(names, recipe.steps, strict=True)):
        operation = registry.get(step.operation)
        model = (models or {}).get(position)
        title = model.listing.title if model else operation.title
        described.append({"name": name, "operation": operation.key, "title": title})
        step_schema = model.params_schema if model else operation.schema()
        own, shared = settings_of(step_schema, name, step.params)
        definitions |= shared
        for setting, about in own.items():
            properties[setting] = {**about, STEP: position, "x-order": len(properties) + 1}
    schema = {
        "type": "object",
        "title": "Params",
        "properties": properties,
        "additionalProperties": False,
        STEPS: described,
    }
    return {**schema, "$defs": definitions} if definitions else schema


def settings_of(
    schema: Mapping[str, Any], step: str, values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameter schemas of a step, renamed to `step.parameter`, in order.

    Args:
        schema: the parameter schema of an operation or a model.
        values: new defaults, by parameter name.

    Returns:
        The parameter schemas, and the schemas that they refer to.
    """
    schema = _refer_into(schema, step)
    found = {}
    declared = sorted(schema.get("properties", {}).items(), key=lambda named: named[1].get("x-order", 0))
    for name, about in declared:
        moved = {**about, NAME: name, "default": values.get(name, about.get("default"))}
        if about.get("show_if"):
            moved["show_if"] = {f"{step}.{other}": wanted for other, wanted in about["show_if"].items()}
        found[f"{step}.{name}"] = moved
    return found, {f"{step}.{name}": about for name, about in schema.get("$defs", {}).items()}


def folders_in(recipe: Recipe) -> dict[str, str]:
    """Return the folder ids in a recipe's parameters, by `step.parameter`. Skips unknown operations."""
    names = name_steps(step.operation for step in recipe.steps)
    found = {}
    for name, step in zip(names, recipe.steps, strict=True):
        try:
            settings = registry.get(step.operation).folders()
        except UnknownOperation:
            continue
        found.update({f"{name}.{s}": str(step.params[s]) for s in settings if step.params.get(s)})
    return found


def _sentence(problem: SettingProblem) -> str:
    """Return the error message of a parameter, for a program or a person."""
    return problem.for_programs if is_for_programs() else _(problem.template) % problem.values


def _refer_into(node: Any, step: str) -> Any:
    """Return a copy in which `$ref` points to the definitions of a step."""
    if isinstance(node, dict):
        return {
            name: value.replace("#/$defs/", f"#/$defs/{step}.")
            if name == "$ref" and isinstance(value, str)
            else _refer_into(value, step)
            for name, value in node.items()
        }
    if isinstance(node, list):
        return [_refer_into(inner, step) for inner in node]
    return node
