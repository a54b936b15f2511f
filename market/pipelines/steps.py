"""The steps of a pipeline: checked, and their settings told as one schema, as `step.setting`."""

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


def check_params(operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an operation as they are frozen, with what is missing at its default.

    Raises:
        UnknownOperation: there is no such operation.
        Invalid: a setting is wrong. `fields` has a sentence for each.
    """
    try:
        checked: dict[str, Any] = registry.validate(operation, given).model_dump(mode="json")
    except ParamsInvalid as error:
        fields = {name: _sentence(problem) for name, problem in error.problems.items()}
        raise Invalid(" ".join(fields.values()), code="invalid_input", fields=fields) from error
    return checked


def check_steps(steps: Sequence[Step], titles: Sequence[str] = ()) -> Recipe:
    """Return the steps as a recipe, each with all of its settings.

    Args:
        titles: what people call the steps; without them, their operations' own.

    Raises:
        Invalid: there are none or too many, an operation is not there, settings are wrong, or a step needs a
            picture where the one before it makes none. `fields` names a setting as `step.setting`, a step by
            its name.
    """
    check_number(len(steps))
    problems = StepProblems(steps, titles)
    checked = []
    for position, step in enumerate(steps):
        try:
            params = check_params(step.operation, step.params)
            if step.weights is None and isinstance(registry.get(step.operation), Family):
                # It runs nothing by itself, so to people there is no app of this name.
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
    """Raise Invalid where a pipeline may not have so many steps."""
    text = ""
    if number == 0:
        text = _("A pipeline needs at least one step.")
    if number > MOST_STEPS:
        text = _("A pipeline has at most %(most)d steps, and this one has %(n)d.") % {
            "most": MOST_STEPS,
            "n": number,
        }
    if text:
        raise Invalid(text, code="steps", fields={"steps": text})


def check_fit(steps: Sequence[Step], titles: Sequence[str] = ()) -> None:
    """Raise Invalid where a step needs a picture and the one before it makes none."""
    operations = [registry.get(step.operation) for step in steps]
    position = find_misfit([operation.outputs for operation in operations])
    if position is None:
        return
    titles = titles or [operation.title for operation in operations]
    text = _(
        "Step %(after)d, %(after_title)s, needs a picture, but step %(before)d, %(before_title)s, makes none."
    ) % {
        "after": position + 1,
        "after_title": _(titles[position]),
        "before": position,
        "before_title": _(titles[position - 1]),
    }
    name = name_steps(step.operation for step in steps)[position]
    raise Invalid(text, code="steps_do_not_fit", fields={name: text})


class StepProblems:
    """What is wrong with the settings of several steps; raised together."""

    def __init__(self, steps: Sequence[Step], titles: Sequence[str] = ()) -> None:
        self._titles = titles or [title_of(step.operation) for step in steps]
        self._names = name_steps(step.operation for step in steps)
        self._fields: dict[str, str] = {}
        self._sentences: list[str] = []

    def add_step(self, position: int, text: str) -> None:
        """Note what is wrong with a step as a whole."""
        sentence = _("Step %(n)d: %(text)s") % {"n": position + 1, "text": text}
        self._fields[self._names[position]] = sentence
        self._sentences.append(sentence)

    def add_settings(self, position: int, fields: Mapping[str, str]) -> None:
        """Note what is wrong with settings of a step, by the operation's own names for them."""
        title = _(self._titles[position])
        for name, text in fields.items():
            self._fields[f"{self._names[position]}.{name}" if name else self._names[position]] = text
            self._sentences.append(
                _("Step %(n)d, %(title)s: %(text)s") % {"n": position + 1, "title": title, "text": text}
            )

    def add_unknown(self, name: str) -> None:
        """Note a setting that belongs to no step."""
        self._fields[name] = _("There is no setting called “%(name)s”.") % {"name": name[:60]}
        self._sentences.append(self._fields[name])

    def check(self, code: str = "invalid_input") -> None:
        """Raise Invalid where there is any."""
        if self._fields:
            raise Invalid(" ".join(self._sentences), code=code, fields=self._fields)


def title_of(operation: str) -> str:
    """Return an operation's title in English, or its key when it is gone."""
    try:
        return registry.get(operation).title
    except UnknownOperation:
        return operation


def schema_of(recipe: Recipe, models: Mapping[int, Version] | None = None) -> dict[str, Any]:
    """Return the schema of a pipeline's settings: each step's, named `step.setting`.

    The values of the recipe, which must have been checked, become the defaults.

    Args:
        models: by position the releases of models that steps run. They say which settings their steps have.
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
        schema = model.params_schema if model else operation.schema()
        own, shared = settings_of(schema, name, step.params)
        definitions |= shared
        for setting, about in own.items():
            properties[setting] = {**about, STEP: position, "x-order": len(properties) + 1}
    made = {
        "type": "object",
        "title": "Params",
        "properties": properties,
        "additionalProperties": False,
        STEPS: described,
    }
    return {**made, "$defs": definitions} if definitions else made


def settings_of(
    schema: Mapping[str, Any], step: str, values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schemas of settings under the names that they have in a step, in order.

    Args:
        schema: of an operation's settings, or of a model's.
        values: what takes the place of their defaults.

    Returns:
        The settings, and the schemas that they refer to.
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
    """Return the folders that a recipe's settings name, by `step.setting`; what is gone has none."""
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
    """Say what is wrong with a setting to whoever asked."""
    return problem.for_programs if is_for_programs() else _(problem.template) % problem.values


def _refer_into(node: Any, step: str) -> Any:
    """Return a copy whose references lead to a step's own definitions."""
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
