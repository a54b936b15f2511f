"""OpenAPI postprocessing hook: adds the parameters and the preview of each built-in app."""

import copy
from typing import Any

from market.listings.io_schema import PICTURE, input_schema
from workers import registry
from workers.plugin import Operation

_PREVIEW = "/v1/preview/{name}"
_FORM = "PreviewFormRequest"
_INPUTS = ("PredictionInputRequest", "VersionedInputRequest")


def describe_apps(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add an input schema for each app, refer to it from `input` fields, and add a path for each preview."""
    schemas = result["components"]["schemas"]
    references = []
    for operation in registry.all_operations():
        accepted, definitions = input_schema(operation.schema())
        name = f"{_camel(operation.key)}Input"
        schemas[name] = {**accepted, "title": f"{operation.title}: input", "description": operation.summary}
        schemas.update(definitions)
        references.append({"$ref": f"#/components/schemas/{name}"})
        # In a form, `image` is the file itself, not a reference to it.
        fields = {**accepted["properties"], PICTURE: schemas[_FORM]["properties"][PICTURE]}
        result["paths"][_PREVIEW.format(name=operation.key)] = _preview(
            result["paths"][_PREVIEW], operation, fields
        )
    for name in _INPUTS:
        described = schemas[name]["properties"]["input"]
        described["anyOf"] = [*references, {"type": "object", "title": "Input of another model"}]
    result["paths"] = dict(sorted(result["paths"].items()))
    return result


def _preview(general: dict[str, Any], operation: Operation[Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Return the general preview path for one app, with a form field for each parameter."""
    own = copy.deepcopy(general)
    post = own["post"]
    post["operationId"] = f"preview_{operation.key}"
    post["summary"] = f"Preview: {operation.title}"
    post["description"] = f"{operation.summary}\n\n{post['description']}"
    post["parameters"] = [p for p in post.get("parameters", []) if p["name"] != "name"]
    form = {"type": "object", "properties": fields}
    post["requestBody"]["content"] = {"multipart/form-data": {"schema": form}}
    return own


def _camel(key: str) -> str:
    return "".join(part.capitalize() for part in key.split("_"))
