"""The description of a YOLO network in a checkpoint, copied piece by piece: known layers only, within bounds.

It is still the uploader's. Ultralytics looks layers up by name and evaluates texts in it, so nothing passes
here but what is listed.
"""

from __future__ import annotations

import math
from typing import Any

from workers.checkpoints.upload import Refused, show

MOST_LAYERS = 200
MOST_REPEATS = 100
# Of all layers together: each block takes its time to build, however few numbers it has.
MOST_BLOCKS = 500
MOST_CLASSES = 20_000
MOST_CHANNELS = 64
MOST_NUMBER = 8192
MOST_ARGUMENTS = 12
# How much a layer without channels of its own may enlarge, pad or pool.
MOST_RESIZING = 16

# The task that each head does.
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
_EXPORT = "The model may be taken if you export it as ONNX."
_DETR_HEAD = "RTDETRDecoder"
_LAYERS = """
    A2C2f AConv ADown AIFI Bottleneck BottleneckCSP C1 C2 C2PSA C2f C2fCIB C2fPSA C3 C3Ghost C3TR C3k2 C3x
    CBFuse CBLinear Concat Conv ConvTranspose DWConv DWConvTranspose2d ELAN1 Focus GhostBottleneck
    GhostConv HGBlock HGStem PSA RepC3 RepNCSPELAN4 ResNetLayer SCDown SPP SPPELAN SPPF Silence
    nn.ConvTranspose2d nn.Identity nn.MaxPool2d nn.Upsample nn.ZeroPad2d
"""
LAYERS = frozenset(_LAYERS.split())
_RESIZING = frozenset({"nn.MaxPool2d", "nn.Upsample", "nn.ZeroPad2d"})
# Ultralytics evaluates these: they are handed on as they stand here.
_ACTIVATIONS = """
    SiLU() ReLU() ReLU6() LeakyReLU() LeakyReLU(0.1) Hardswish() GELU() Mish() ELU() Identity()
"""
ACTIVATIONS = frozenset(f"{prefix}{name}" for prefix in ("nn.", "torch.nn.") for name in _ACTIVATIONS.split())
# Texts among a layer's arguments.
_WORDS = frozenset({"nc", "kpt_shape", "anchors", "None", "True", "False", "nearest", "bilinear", "bicubic"})


def check_yaml(found: Any) -> dict[str, Any]:
    """Return a description made anew of what is known and within bounds. Raises Refused."""
    if not isinstance(found, dict):
        raise Refused("The checkpoint does not say how its network is built.", code="architecture")
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
        text = f"It looks at pictures of {checked['channels']} channels; they have 3, or 1 in grey."
        raise Refused(text, code="channels")
    checked |= _layers(found)
    _check_blocks(checked)
    if HEADS[checked["head"][-1][2]] == "pose" and "kpt_shape" not in checked:
        raise Refused("The shape of its keypoints cannot be read.", code="architecture")
    return checked


def _scales(found: dict[Any, Any]) -> dict[str, Any]:
    """Return how deep and wide the network is. Of several scales only the chosen one is needed."""
    scales, scale = found.get("scales"), found.get("scale")
    if not scales:
        return {
            name: _number(found[name], 0.01, 8, name)
            for name in ("depth_multiple", "width_multiple")
            if found.get(name) is not None
        }
    if not isinstance(scales, dict) or len(scales) > 64:
        raise Refused("The checkpoint’s scales cannot be read.", code="architecture")
    scale = scale or next(iter(scales))
    chosen = scales.get(scale) if isinstance(scale, str) and len(scale) == 1 else None
    if not isinstance(chosen, (list, tuple)) or len(chosen) != 3:
        raise Refused("The checkpoint’s scales cannot be read.", code="architecture")
    depth, width = (_number(value, 0.01, 8, "scale") for value in chosen[:2])
    return {"scale": scale, "scales": {scale: [depth, width, _whole(chosen[2], 1, MOST_NUMBER, "scale")]}}


def _activation(found: Any) -> str:
    if not isinstance(found, str) or found not in ACTIVATIONS:
        raise Refused(f"Its activation “{_show(found)}” is not known.", code="architecture")
    return found


def _keypoints(found: Any) -> list[int]:
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise Refused("The shape of its keypoints cannot be read.", code="architecture")
    return [_whole(found[0], 1, 1000, "keypoints"), _whole(found[1], 2, 3, "keypoints")]


def _layers(found: dict[Any, Any]) -> dict[str, Any]:
    backbone, head = found.get("backbone"), found.get("head")
    if not isinstance(backbone, list) or not isinstance(head, list) or not backbone or not head:
        raise Refused("The checkpoint does not say how its network is built.", code="architecture")
    if len(backbone) + len(head) > MOST_LAYERS:
        raise Refused(f"Its network has more than {MOST_LAYERS} layers.", code="too_large")
    rows = [_row(row, index) for index, row in enumerate([*backbone, *head])]
    if rows[-1][2] not in HEADS:
        text = f"Its head {rows[-1][2]} is not one of those that are run here: {', '.join(HEADS)}."
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
        # It says itself of how many blocks it is.
        inner = arguments[4:5] if name == "ResNetLayer" else []
        blocks += max([repeats * depth, 1, *(one for one in inner if isinstance(one, (int, float)))])
    if blocks > MOST_BLOCKS:
        raise Refused(f"Its network has more than {MOST_BLOCKS} blocks.", code="too_large")


def _row(row: Any, index: int) -> list[Any]:
    """Check one layer: where from, how often, which, with what."""
    if not isinstance(row, (list, tuple)) or len(row) != 4:
        raise Refused(f"Its layer {index} cannot be read.", code="architecture")
    source, repeats, name, arguments = row
    if not isinstance(name, str) or (name not in LAYERS and name not in HEADS):
        is_detr = name == _DETR_HEAD
        advice = "An RT-DETR is not taken as ONNX, either." if is_detr else _EXPORT
        text = f"Its layer {index} is of a kind that is not known: {_show(name)}. {advice}"
        raise Refused(text, code="architecture")
    if not isinstance(arguments, (list, tuple)) or len(arguments) > MOST_ARGUMENTS:
        raise Refused(f"The settings of its layer {index} cannot be read.", code="architecture")
    most = MOST_RESIZING if name in _RESIZING else MOST_NUMBER
    sources = source if isinstance(source, (list, tuple)) else [source]
    if not 1 <= len(sources) <= 16:
        raise Refused(f"Its layer {index} takes from too many others.", code="architecture")
    places = [
        _whole(place, -max(1, index), max(0, index - 1), f"source of layer {index}") for place in sources
    ]
    return [
        places if isinstance(source, (list, tuple)) else places[0],
        _whole(repeats, 1, MOST_REPEATS, f"number of repeats of layer {index}"),
        # What YOLOv9 called by this name does nothing.
        "nn.Identity" if name == "Silence" else name,
        [_argument(value, index, most) for value in arguments],
    ]


def _argument(value: Any, index: int, most: int, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value not in _WORDS:
            raise Refused(
                f"The setting “{_show(value)}” of its layer {index} is not known.", code="architecture"
            )
        return value
    if isinstance(value, (int, float)):
        return _bounded(value, index, most)
    if isinstance(value, (list, tuple)) and len(value) <= 64 and depth < 2:
        return [_argument(inner, index, most, depth + 1) for inner in value]
    raise Refused(f"The settings of its layer {index} cannot be read.", code="architecture")


def _bounded(value: float, index: int, most: int) -> float:
    if not math.isfinite(value) or abs(value) > most:
        text = f"Its layer {index} has a setting larger than {most}: no model that runs here needs that."
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
