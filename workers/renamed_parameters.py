"""Old names of parameters, by operation. Errors for an old name contain the new name."""

from __future__ import annotations

from collections.abc import Mapping

_DETECTION = {"line": "line_width", "most": "max_detections", "size": "image_size", "top": "top_k"}

RENAMED_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "ascii": {"coloured": "colored"},
    "blackwhite": {"automatic": "auto_threshold", "level": "threshold"},
    "gan": {"keep_colours": "keep_colors", "size": "image_size"},
    "mosaic": {"adaption": "color_match"},
    "onnx": _DETECTION,
    "pixelart": {"colours": "colors"},
    "vit": {"top": "top_k"},
    "yolo": _DETECTION,
}
