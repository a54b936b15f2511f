"""YOLO: detectors, segmenters, poses, turned boxes and classifiers that Ultralytics trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.families.yolo import convert as weights
from workers.plugin import IMAGE, Context, Family, Kept, OutputSpec, PictureView, Result
from workers.vision import detect


class YoloParams(detect.FindingParams):
    """The settings of all that finds things."""


class Yolo(Family[YoloParams]):
    """Runs Ultralytics checkpoints."""

    key = "yolo"
    title = "YOLO"
    summary = "Finds things in pictures, with the weights of a YOLO model."
    description = (
        "Detection, segmentation, poses, turned boxes and classification, as trained with Ultralytics. "
        "What is found is drawn, blurred or cut out, and told as data with boxes in pixels."
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

    def recognise(self, upload: Any) -> str | None:
        return weights.recognise(upload)

    def convert(self, upload: Any) -> Any:
        return weights.convert(upload)

    def rebuild(self, facts: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        return weights.rebuild_converted(facts, tensors)
