"""What the API's description says about each built-in app: its parameters, taken from the registry."""

import copy
from typing import Any

from market.listings.io_schema import PICTURE, input_schema
from workers import registry
from workers.plugin import Operation

_PREVIEW = "/v1/preview/{name}"
_FORM = "PreviewFormRequest"
_INPUTS = ("PredictionInputRequest", "VersionedInputRequest")


def describe_apps(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add a schema of each app's input, name them where an input is asked for, and list each preview."""
    schemas = result["components"]["schemas"]
    references = []
    for operation in registry.all_operations():
        taken, definitions = input_schema(operation.schema())
        name = f"{_camel(operation.key)}Input"
        schemas[name] = {**taken, "title": f"{operation.title}: input", "description": operation.summary}
        schemas.update(definitions)
        references.append({"$ref": f"#/components/schemas/{name}"})
        # In a form `image` is the file itself, not its name.
        fields = {**taken["properties"], PICTURE: schemas[_FORM]["properties"][PICTURE]}
        result["paths"][_PREVIEW.format(name=operation.key)] = _preview(
            result["paths"][_PREVIEW], operation, fields
        )
    for name in _INPUTS:
        described = schemas[name]["properties"]["input"]
        described["anyOf"] = [*references, {"type": "object", "title": "Of another model"}]
    result["paths"] = dict(sorted(result["paths"].items()))
    return result


def _preview(general: dict[str, Any], operation: Operation[Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Return the general preview, narrowed to one app, so that a form can be made of it."""
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
