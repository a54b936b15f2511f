"""YOLO checkpoints, whoever's code wrote them: what they are, and how they are converted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.weights import ultralytics_models
from workers.weights.bundle import Bundle
from workers.weights.upload import Upload


def recognise(upload: Upload) -> str | None:
    """Say what the checkpoint is («YOLO11 detector»), or None where it is no YOLO's."""
    return ultralytics_models.recognise(upload)


def convert(upload: Upload) -> Bundle:
    """Rebuild the model by trusted code, export and compare it. Raises Refused."""
    return ultralytics_models.convert(upload)


def rebuild(facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """Return a converted model as a torch module on the CPU, ready to run.

    Args:
        facts: of its model.json, of which only `architecture` is read.
        tensors: of its weights.safetensors.
    """
    return ultralytics_models.rebuild(facts, tensors)
