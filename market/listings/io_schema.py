"""JSON schemas of a version's input and output."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from market.models import Version
from workers import registry
from workers.plugin import AUTO, OutputSpec, Params
from workers.recipe import Recipe, label_texts, name_steps
from workers.registry import UnknownOperation

# Name of the input image, in addition to the parameters.
PICTURE = "image"
# Extension keys of the schema: the steps in order; of a parameter, the position of its step and its name
# in the operation.
STEPS, STEP, NAME = "x-steps", "x-step", "x-name"
_COMPONENTS = "#/components/schemas/"
_PICTURE = {
    "type": "string",
    "format": "uri",
    "title": "Image",
    "description": "The input image: `urls.get` or id of a file in your drive, or a data URI. URLs of other "
    "sites are not fetched.",
    "x-order": 0,
}
_KINDS: dict[str, dict[str, Any]] = {
    "image": {"type": "string", "format": "uri"},
    "text": {"type": "string", "format": "uri"},
    "data": {},
}


def outputs_of(version: Version) -> tuple[OutputSpec, ...]:
    """Return the outputs of a version, each label once. Unknown operations have none."""
    steps = [_outputs(step.operation) for step in Recipe.model_validate(version.recipe).steps]
    found: dict[str, OutputSpec] = {}
    for outputs, labels in zip(steps, label_texts(steps), strict=True):
        for output in outputs:
            label = labels.get(output.label, output.label)
            found[label] = replace(output, label=label)
    return tuple(found.values())


def data_labels_of(version: Version) -> list[tuple[str, str]]:
    """Return the steps that return data, in order, with their labels: ("yolo2", "detections2")."""
    keys = [step.operation for step in Recipe.model_validate(version.recipe).steps]
    outputs = [_outputs(key) for key in keys]
    return [
        (name, labels[output.label])
        for name, own, labels in zip(name_steps(keys), outputs, label_texts(outputs), strict=True)
        for output in own
        if output.kind == "data"
    ]


def in_order(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Number the parameters with `x-order`, because the database does not keep the order of keys."""
    numbered = enumerate(schema.get("properties", {}).items(), start=1)
    return {**schema, "properties": {name: {**about, "x-order": order} for order, (name, about) in numbered}}


def schema_with_current_texts(version: Version) -> dict[str, Any]:
    """Return the parameter schema of a version, with the titles, help texts and labels of today's code.

    Stored schemas have the texts of their release date. They stay for operations, parameters and choices that
    no longer exist. Values, limits and defaults are always the stored ones.
    """
    steps = version.recipe["steps"]
    properties = {}
    for name, about in version.params_schema.get("properties", {}).items():
        current = _current_properties(steps[about.get(STEP, len(steps) - 1)]["operation"])
        properties[name] = _update_texts(about, current.get(about.get(NAME, name), {}))
    return {**version.params_schema, "properties": properties}


def number_schema(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a setting's schema that has the bounds and type of its number.

    A setting that is a number or "auto" has it in `anyOf`; any other is its own part.
    """
    parts: list[Mapping[str, Any]] = about.get("anyOf", [])
    return next((part for part in parts if part.get("type") in ("integer", "number")), about)


def allows_auto(about: Mapping[str, Any]) -> bool:
    """Tell whether a setting may be "auto" in place of a number."""
    return any(part.get("const") == AUTO for part in about.get("anyOf", ()))


def values_of(schema: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a version's parameters in a recipe, by name.

    Parameters of a pipeline name their step. All others belong to the last step.
    """
    steps = recipe["steps"]
    found = {}
    for name, about in schema.get("properties", {}).items():
        params = steps[about.get(STEP, len(steps) - 1)].get("params", {})
        own = about.get(NAME, name)
        if own in params:
            found[name] = params[own]
    return found


def input_schema(params_schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of a prediction's `input`, and the schemas that it refers to, by name."""
    schema = _move_references(params_schema)
    definitions: dict[str, Any] = schema.pop("$defs", {})
    own = schema.get("properties", {})
    properties = {PICTURE: _PICTURE}
    declared = sorted(own.items(), key=lambda named: named[1].get("x-order", 0))
    for order, (name, described) in enumerate(declared, start=1):
        properties[name] = {**described, "x-order": order}
    return (
        {
            "type": "object",
            "title": "Input",
            "required": [PICTURE, *schema.get("required", [])],
            "properties": properties,
            "additionalProperties": False,
        },
        definitions,
    )


def output_schema(outputs: tuple[OutputSpec, ...]) -> dict[str, Any]:
    """Return the schema of a prediction's `output`: a single output, or an object by label."""
    if len(outputs) == 1:
        return {"title": "Output", **_KINDS[outputs[0].kind]}
    properties = {output.label: {"title": output.title, **_KINDS[output.kind]} for output in outputs}
    return {"title": "Output", "type": "object", "properties": properties}


def openapi_of(version: Version) -> dict[str, Any]:
    """Return the OpenAPI document that clients of hosted inference expect of a version."""
    inputs, definitions = input_schema(schema_with_current_texts(version))
    return {
        "openapi": "3.1.0",
        "info": {"title": version.listing.title, "version": str(version.number)},
        "paths": {},
        "components": {
            "schemas": {"Input": inputs, "Output": output_schema(outputs_of(version)), **definitions}
        },
    }


def _update_texts(about: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    texts = {key: current[key] for key in ("title", "description") if key in current}
    if "enum_labels" in about:
        labels = current.get("enum_labels", {})
        texts["enum_labels"] = {value: labels.get(value, own) for value, own in about["enum_labels"].items()}
    return {**about, **texts}


def _current_properties(operation: str) -> Mapping[str, Any]:
    try:
        return _properties_of(registry.get(operation).Params)
    except UnknownOperation:
        return {}


@functools.lru_cache(maxsize=64)
def _properties_of(params: type[Params]) -> Mapping[str, Any]:
    # Building a schema takes milliseconds, and pages need it for each request.
    properties: Mapping[str, Any] = params.model_json_schema()["properties"]
    return properties


def _outputs(operation: str) -> tuple[OutputSpec, ...]:
    try:
        return registry.get(operation).outputs
    except UnknownOperation:
        return ()


def _move_references(node: Any) -> Any:
    """Return a copy in which `#/$defs/X` points to the components of OpenAPI."""
    if isinstance(node, dict):
        return {
            name: value.replace("#/$defs/", _COMPONENTS)
            if name == "$ref" and isinstance(value, str)
            else _move_references(value)
            for name, value in node.items()
        }
    if isinstance(node, list):
        return [_move_references(inner) for inner in node]
    return node
