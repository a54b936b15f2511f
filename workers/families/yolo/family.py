"""YOLO: detection, segmentation, pose, oriented box and classification models of Ultralytics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.families.yolo import convert as weights
from workers.plugin import IMAGE, Context, Family, Kept, OutputSpec, PictureView, Result
from workers.vision import detect


class YoloParams(detect.FindingParams):
    """Parameters of detectors."""


class Yolo(Family[YoloParams]):
    """Runs Ultralytics checkpoints."""

    key = "yolo"
    title = "YOLO"
    summary = "Detect, segment or classify objects with a YOLO model."
    description = (
        "Object detection, instance segmentation, pose estimation, oriented bounding boxes and image "
        "classification with Ultralytics models. Detections can be drawn, blurred or cropped. They are "
        "also returned as data, with boxes in pixels."
    )
    queue = "gpu"
    version = 2
    outputs = (IMAGE, OutputSpec("detections", "data", "Detections"))
    Params = YoloParams

    def keeps(self, params: YoloParams, facts: Mapping[str, Any]) -> Kept:
        return detect.keeps(params)

    def run(self, picture: PictureView, params: YoloParams, context: Context) -> Result:
        return detect.run(picture, params, context)

    def settings_for(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        return detect.settings_for(facts)

    def choices_for(self, facts: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        return detect.choices_for(facts)

    def recognize(self, upload: Any) -> str | None:
        return weights.recognize(upload)

    def convert(self, upload: Any) -> Any:
        return weights.convert(upload)

    def rebuild(self, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        return weights.rebuild_converted(facts, tensors)
