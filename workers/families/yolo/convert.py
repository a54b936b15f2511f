"""YOLO checkpoints, whoever's code wrote them: what they are, and how they are converted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.bundle import Bundle
from workers.checkpoints.upload import WeightsUpload
from workers.families.yolo import ultralytics_models, yolov5


def recognise(upload: WeightsUpload) -> str | None:
    """Say what the checkpoint is («YOLO11 detector»), or None where it is no YOLO's."""
    return yolov5.recognise(upload) or ultralytics_models.recognise(upload)


def convert(upload: WeightsUpload) -> Bundle:
    """Rebuild the model by trusted code, export and compare it. Raises Refused."""
    older = yolov5.recognise(upload) is not None
    return yolov5.convert(upload) if older else ultralytics_models.convert(upload)


def rebuild(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Return a converted model as a torch module on the CPU, ready to run.

    Args:
        facts: of its model.json, of which only `architecture` is read.
        tensors: of its weights.safetensors.
    """
    older = facts["architecture"].get("repository") == "yolov5"
    return yolov5.rebuild(facts, tensors) if older else ultralytics_models.rebuild(facts, tensors)


def rebuild_converted(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """As `rebuild`, but nothing of the facts is believed: `architecture` is checked anew. Raises Refused."""
    older = facts["architecture"].get("repository") == "yolov5"
    return (yolov5 if older else ultralytics_models).rebuild_converted(facts, tensors)
