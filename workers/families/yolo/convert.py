"""Recognition and conversion of YOLO checkpoints, of Ultralytics and of the YOLOv5 repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.bundle import Bundle
from workers.checkpoints.upload import WeightsUpload
from workers.families.yolo import ultralytics_models, yolov5


def recognize(upload: WeightsUpload) -> str | None:
    """Return the title of the model («YOLO11 detector»), or None if the checkpoint is not a YOLO."""
    return yolov5.recognize(upload) or ultralytics_models.recognize(upload)


def convert(upload: WeightsUpload) -> Bundle:
    """Rebuild the model with trusted code, export it, and compare both. Raises Refused."""
    older = yolov5.recognize(upload) is not None
    return yolov5.convert(upload) if older else ultralytics_models.convert(upload)


def rebuild(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Return a converted model as a torch module on the CPU, ready to run.

    Args:
        facts: content of model.json. Only `architecture` is read.
        tensors: content of weights.safetensors.
    """
    older = facts["architecture"].get("repository") == "yolov5"
    return yolov5.rebuild(facts, tensors) if older else ultralytics_models.rebuild(facts, tensors)


def rebuild_converted(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Like `rebuild`, but validate `architecture` again, because it is not trusted. Raises Refused."""
    older = facts["architecture"].get("repository") == "yolov5"
    return (yolov5 if older else ultralytics_models).rebuild_converted(facts, tensors)
