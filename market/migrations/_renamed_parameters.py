"""How parameters that were stored under their former names are written now, frozen as of these migrations."""

from collections.abc import Mapping
from typing import Any

_DETECTION = {"line": "line_width", "most": "max_detections", "size": "image_size", "top": "top_k"}
NAMES: Mapping[str, Mapping[str, str]] = {
    "ascii": {"coloured": "colored"},
    "blackwhite": {"automatic": "auto_threshold", "level": "threshold"},
    "gan": {"keep_colours": "keep_colors", "size": "image_size"},
    "mosaic": {"adaption": "color_match"},
    "onnx": _DETECTION,
    "pixelart": {"colours": "colors"},
    "vit": {"top": "top_k"},
    "yolo": _DETECTION,
}
# By the new name of the parameter. Forms and CSV files send texts, so 0 may be "0".
_SIZES = {"0": "auto", **{str(side): 32 for side in range(1, 32)}}
_DETECTION_VALUES = {"line_width": {"0": "auto"}, "image_size": _SIZES}
VALUES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "blackwhite": {"finish": {"grey": "gray"}},
    "onnx": _DETECTION_VALUES,
    "pixelart": {"palette": {"grey4": "gray4"}},
    "yolo": _DETECTION_VALUES,
}


def _auto(lowest: int, highest: int, start: int, label: str) -> dict[str, Any]:
    number = {"type": "integer", "minimum": lowest, "maximum": highest}
    return {
        "anyOf": [number, {"type": "string", "const": "auto"}],
        "enum_labels": {"auto": label},
        "examples": [start],
    }


_TOP_K = {
    "title": "Top classes",
    "description": "Maximum number of classes that a classifier returns, most confident first.",
}
_DETECTION_SCHEMA: Mapping[str, Mapping[str, Any]] = {
    "result": {"description": "The image that you get. The detections come as data in each case."},
    "confidence": {
        "description": "Detections below this confidence are hidden.",
        "display": "at_least_percent",
    },
    "iou": {
        "title": "IoU threshold",
        "description": "Of two overlapping boxes of one class with a higher IoU, only the more confident one "
        "is kept.",
    },
    "max_detections": {
        "title": "Max detections",
        "description": "Maximum number of detections, most confident first.",
    },
    "masks": {"description": "Color the pixels of each thing, where the model knows them."},
    "line_width": {
        **_auto(1, 40, 3, "auto"),
        "description": "Width of boxes and limbs. Auto: by the size of the image.",
    },
    "image_size": {
        **_auto(32, 2048, 640, "model default"),
        "title": "Image size",
        "description": "Longer side of the image that the model sees. Some models run at their default size "
        "only.",
    },
    "top_k": _TOP_K,
}
# What else a parameter's schema says now, by its new name.
_SCHEMA: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "ascii": {
        "colored": {
            "title": "In color",
            "description": "Each character takes the color of what it stands for.",
        }
    },
    "blackwhite": {
        "method": {"title": "Grayscale method"},
        "contrast": {"description": "Below zero flattens towards mid gray, above zero steepens."},
        "finish": {"description": "Shades of gray, or nothing but black and white."},
        "auto_threshold": {"title": "Automatic threshold"},
        "threshold": {"title": "Threshold"},
        "pattern": {"description": "How black and white dots are laid to look gray."},
    },
    "gan": {
        "keep_colors": {
            "title": "Keep colors",
            "description": "Light and dark of the result, in the colors of the image.",
        },
        "image_size": {
            "title": "Image size",
            "description": "Longer side of the image that the model sees, for models that see the whole image "
            "at once.",
        },
    },
    "mosaic": {
        "color_match": {
            "title": "Color match",
            "description": "How far each small picture takes the mean color of what it stands for.",
        }
    },
    "onnx": _DETECTION_SCHEMA,
    "pixelart": {
        "palette": {"description": "Which colors the result may use."},
        "colors": {"title": "Colors", "description": "How many colors are picked from the picture."},
        "dither": {"description": "Mixes pixels of two colors where the palette has none between them."},
    },
    "vit": {
        "top_k": {
            "title": "Top classes",
            "description": "Maximum number of classes that are returned, most confident first.",
        }
    },
    "yolo": _DETECTION_SCHEMA,
}
_RESULT_LABELS = {
    "draw": "Annotated image",
    "blur": "Blur detections",
    "crop": "Crop the best match",
    "data": "Data only",
}
_LABELS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "blackwhite": {"finish": {"gray": "Shades of gray", "threshold": "Two tones, by threshold"}},
    "onnx": {"result": _RESULT_LABELS},
    "pixelart": {
        "palette": {
            "pico8": "PICO-8 (16 colors)",
            "cga": "CGA (4 colors)",
            "ega": "EGA (16 colors)",
            "c64": "Commodore 64 (16 colors)",
            "spectrum": "ZX Spectrum (15 colors)",
            "nes": "NES (55 colors)",
            "gray4": "Four grays",
        }
    },
    "yolo": {"result": _RESULT_LABELS},
}
_NUMBER_KEYS = ("type", "minimum", "maximum")


def rename_params(operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operation's parameters under the new names, with the new values."""
    renamed = {}
    for name, value in params.items():
        new = NAMES.get(operation, {}).get(name, name)
        renamed[new] = _value(operation, new, value)
    return renamed


def rename_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe whose steps have the new names and values."""
    steps = [
        {**step, "params": rename_params(step["operation"], step["params"])} if "params" in step else step
        for step in recipe["steps"]
    ]
    return {**recipe, "steps": steps}


def rename_input(asked: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person asked of a recipe: by the last step's names, or `step.setting` of a pipeline."""
    operations = [step["operation"] for step in recipe["steps"]]
    steps = dict(zip(_name_steps(operations), operations, strict=True))
    renamed = {}
    for name, value in asked.items():
        step, dot, setting = name.rpartition(".")
        operation = steps.get(step, "") if dot else operations[-1]
        (new, written), = rename_params(operation, {setting: value}).items()
        renamed[f"{step}{dot}{new}"] = written
    return renamed


def rename_schema(schema: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a version's parameters with the new names, values, titles and descriptions."""
    operations = [step["operation"] for step in recipe["steps"]]
    properties = {}
    for name, about in schema.get("properties", {}).items():
        operation = operations[about.get("x-step", len(operations) - 1)]
        step, dot, setting = name.rpartition(".")
        new = NAMES.get(operation, {}).get(setting, setting)
        properties[f"{step}{dot}{new}"] = _property(operation, new, about)
    return {**schema, "properties": properties}


def _property(operation: str, name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    changed = {**about, **_SCHEMA.get(operation, {}).get(name, {})}
    if "x-name" in about:
        changed["x-name"] = name
    if "default" in about:
        changed["default"] = _value(operation, name, about["default"])
    if about.get("widget") == "colour":
        changed["widget"] = "color"
    if "anyOf" in changed and "anyOf" not in about:
        changed = {key: value for key, value in changed.items() if key not in _NUMBER_KEYS}
    if "enum" in about:
        changed["enum"] = [_value(operation, name, value) for value in about["enum"]]
        labels = {_value(operation, name, key): text for key, text in about.get("enum_labels", {}).items()}
        changed["enum_labels"] = labels | _LABELS.get(operation, {}).get(name, {})
    if "show_if" in about:
        changed["show_if"] = _conditions(operation, about["show_if"])
    return changed


def _conditions(operation: str, conditions: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {}
    for name, values in conditions.items():
        step, dot, setting = name.rpartition(".")
        new = NAMES.get(operation, {}).get(setting, setting)
        renamed[f"{step}{dot}{new}"] = [_value(operation, new, value) for value in values]
    return renamed


def _value(operation: str, name: str, value: Any) -> Any:
    values = VALUES.get(operation, {}).get(name, {})
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    written = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return values.get(written.strip(), value)


def _name_steps(operations: list[str]) -> list[str]:
    """Name steps as `step.setting` does: by operation, the second of one with a 2 behind it."""
    names: list[str] = []
    for operation in operations:
        number, name = 1, operation
        while name in names:
            number += 1
            name = f"{operation}{number}"
        names.append(name)
    return names
