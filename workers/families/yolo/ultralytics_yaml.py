"""Validation of the YAML of a YOLO checkpoint: allowed layers and arguments, within limits.

The YAML is untrusted. Ultralytics looks up layers by name and evaluates strings in it, so only listed values
are copied.
"""

from __future__ import annotations

import math
from typing import Any

from workers.checkpoints.upload import Refused, show

MOST_LAYERS = 200
MOST_REPEATS = 100
# Of all layers together: building takes time for each block, even for small ones.
MOST_BLOCKS = 500
MOST_CLASSES = 20_000
MOST_CHANNELS = 64
MOST_NUMBER = 8192
MOST_ARGUMENTS = 12
# Limit of resizing, padding and pooling arguments.
MOST_RESIZING = 16

# The task of each head.
HEADS = {
    "Detect": "detect",
    "v10Detect": "detect",
    "Segment": "segment",
    "Segment26": "segment",
    "Pose": "pose",
    "Pose26": "pose",
    "OBB": "obb",
    "OBB26": "obb",
    "Classify": "classify",
}
_EXPORT = "Try to export the model as ONNX."
_DETR_HEAD = "RTDETRDecoder"
_LAYERS = """
    A2C2f AConv ADown AIFI Bottleneck BottleneckCSP C1 C2 C2PSA C2f C2fCIB C2fPSA C3 C3Ghost C3TR C3k2 C3x
    CBFuse CBLinear Concat Conv ConvTranspose DWConv DWConvTranspose2d ELAN1 Focus GhostBottleneck
    GhostConv HGBlock HGStem PSA RepC3 RepNCSPELAN4 ResNetLayer SCDown SPP SPPELAN SPPF Silence
    nn.ConvTranspose2d nn.Identity nn.MaxPool2d nn.Upsample nn.ZeroPad2d
"""
LAYERS = frozenset(_LAYERS.split())
_RESIZING = frozenset({"nn.MaxPool2d", "nn.Upsample", "nn.ZeroPad2d"})
# Ultralytics evaluates these strings, so only exact matches are allowed.
_ACTIVATIONS = """
    SiLU() ReLU() ReLU6() LeakyReLU() LeakyReLU(0.1) Hardswish() GELU() Mish() ELU() Identity()
"""
ACTIVATIONS = frozenset(f"{prefix}{name}" for prefix in ("nn.", "torch.nn.") for name in _ACTIVATIONS.split())
# Allowed strings in layer arguments.
_WORDS = frozenset({"nc", "kpt_shape", "anchors", "None", "True", "False", "nearest", "bilinear", "bicubic"})


def check_yaml(found: Any) -> dict[str, Any]:
    """Return a copy with only allowed values within limits. Raises Refused."""
    if not isinstance(found, dict):
        raise Refused("The checkpoint has no valid YAML of its network.", code="architecture")
    checked: dict[str, Any] = {
        "nc": _whole(found.get("nc"), 1, MOST_CLASSES, "number of classes"),
        "channels": _whole(found.get("channels", found.get("ch", 3)), 1, MOST_CHANNELS, "number of channels"),
        **_scales(found),
    }
    if found.get("activation") is not None:
        checked["activation"] = _activation(found["activation"])
    if found.get("end2end") is not None:
        checked["end2end"] = bool(found["end2end"])
    if found.get("reg_max") is not None:
        checked["reg_max"] = _whole(found["reg_max"], 1, 64, "reg_max")
    if found.get("kpt_shape") is not None:
        checked["kpt_shape"] = _keypoints(found["kpt_shape"])
    if checked["channels"] not in (1, 3):
        text = f"Its input has {checked['channels']} channels. Only 3, or 1 (gray), are supported."
        raise Refused(text, code="channels")
    checked |= _layers(found)
    _check_blocks(checked)
    if HEADS[checked["head"][-1][2]] == "pose" and "kpt_shape" not in checked:
        raise Refused("Its kpt_shape is missing or invalid.", code="architecture")
    return checked


def _scales(found: dict[Any, Any]) -> dict[str, Any]:
    """Return depth and width of the network. Of several scales, only the selected one is copied."""
    scales, scale = found.get("scales"), found.get("scale")
    if not scales:
        return {
            name: _number(found[name], 0.01, 8, name)
            for name in ("depth_multiple", "width_multiple")
            if found.get(name) is not None
        }
    if not isinstance(scales, dict) or len(scales) > 64:
        raise Refused("The scales of the checkpoint are invalid.", code="architecture")
    scale = scale or next(iter(scales))
    chosen = scales.get(scale) if isinstance(scale, str) and len(scale) == 1 else None
    if not isinstance(chosen, (list, tuple)) or len(chosen) != 3:
        raise Refused("The scales of the checkpoint are invalid.", code="architecture")
    depth, width = (_number(value, 0.01, 8, "scale") for value in chosen[:2])
    return {"scale": scale, "scales": {scale: [depth, width, _whole(chosen[2], 1, MOST_NUMBER, "scale")]}}


def _activation(found: Any) -> str:
    if not isinstance(found, str) or found not in ACTIVATIONS:
        raise Refused(f"The activation “{_show(found)}” is not supported.", code="architecture")
    return found


def _keypoints(found: Any) -> list[int]:
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise Refused("Its kpt_shape is missing or invalid.", code="architecture")
    return [_whole(found[0], 1, 1000, "keypoints"), _whole(found[1], 2, 3, "keypoints")]


def _layers(found: dict[Any, Any]) -> dict[str, Any]:
    backbone, head = found.get("backbone"), found.get("head")
    if not isinstance(backbone, list) or not isinstance(head, list) or not backbone or not head:
        raise Refused("The checkpoint has no valid YAML of its network.", code="architecture")
    if len(backbone) + len(head) > MOST_LAYERS:
        raise Refused(f"Its network has more than {MOST_LAYERS} layers.", code="too_large")
    rows = [_row(row, index) for index, row in enumerate([*backbone, *head])]
    if rows[-1][2] not in HEADS:
        text = f"The head {rows[-1][2]} is not supported. Supported heads: {', '.join(HEADS)}."
        raise Refused(text, code="architecture")
    if any(row[2] in HEADS for row in rows[:-1]) or rows[-1][1] != 1:
        raise Refused("Its network has several heads.", code="architecture")
    return {"backbone": rows[: len(backbone)], "head": rows[len(backbone) :]}


def _check_blocks(checked: dict[str, Any]) -> None:
    depth = (
        checked["scales"][checked["scale"]][0] if "scales" in checked else checked.get("depth_multiple", 1)
    )
    blocks = 0.0
    for _, repeats, name, arguments in (*checked["backbone"], *checked["head"]):
        # It has the number of blocks as an argument.
        inner = arguments[4:5] if name == "ResNetLayer" else []
        blocks += max([repeats * depth, 1, *(one for one in inner if isinstance(one, (int, float)))])
    if blocks > MOST_BLOCKS:
        raise Refused(f"Its network has more than {MOST_BLOCKS} blocks.", code="too_large")


def _row(row: Any, index: int) -> list[Any]:
    """Return a validated row of one layer: source, repeats, name and arguments."""
    if not isinstance(row, (list, tuple)) or len(row) != 4:
        raise Refused(f"Its layer {index} is invalid.", code="architecture")
    source, repeats, name, arguments = row
    if not isinstance(name, str) or (name not in LAYERS and name not in HEADS):
        is_detr = name == _DETR_HEAD
        advice = "RT-DETR models are not supported as ONNX either." if is_detr else _EXPORT
        text = f"The type of its layer {index} is not supported: {_show(name)}. {advice}"
        raise Refused(text, code="architecture")
    if not isinstance(arguments, (list, tuple)) or len(arguments) > MOST_ARGUMENTS:
        raise Refused(f"The arguments of its layer {index} are invalid.", code="architecture")
    most = MOST_RESIZING if name in _RESIZING else MOST_NUMBER
    sources = source if isinstance(source, (list, tuple)) else [source]
    if not 1 <= len(sources) <= 16:
        raise Refused(f"Its layer {index} must have 1 to 16 sources.", code="architecture")
    places = [
        _whole(place, -max(1, index), max(0, index - 1), f"source of layer {index}") for place in sources
    ]
    return [
        places if isinstance(source, (list, tuple)) else places[0],
        _whole(repeats, 1, MOST_REPEATS, f"number of repeats of layer {index}"),
        # Silence of YOLOv9 returns its input.
        "nn.Identity" if name == "Silence" else name,
        [_argument(value, index, most) for value in arguments],
    ]


def _argument(value: Any, index: int, most: int, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value not in _WORDS:
            raise Refused(
                f"The argument “{_show(value)}” of its layer {index} is not supported.", code="architecture"
            )
        return value
    if isinstance(value, (int, float)):
        return _bounded(value, index, most)
    if isinstance(value, (list, tuple)) and len(value) <= 64 and depth < 2:
        return [_argument(inner, index, most, depth + 1) for inner in value]
    raise Refused(f"The arguments of its layer {index} are invalid.", code="architecture")


def _bounded(value: float, index: int, most: int) -> float:
    if not math.isfinite(value) or abs(value) > most:
        text = f"Its layer {index} has an argument above the limit of {most}."
        raise Refused(text, code="too_large")
    return value


def _whole(value: Any, low: int, high: int, what: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise Refused(f"Its {what} must be a whole number from {low} to {high}.", code="architecture")
    return value


def _number(value: Any, low: float, high: float, what: str) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        raise Refused(f"Its {what} must be a number from {low:g} to {high:g}.", code="architecture")
    return float(value)


def _show(value: Any) -> str:
    return show(value if isinstance(value, str) else type(value).__name__, 60)
