"""ONNX: exported graphs, run without rebuilding the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.families.onnx import convert as onnx_exports
from workers.families.onnx.output_layouts import LABELS, PIXEL_LAYOUTS
from workers.inference.sessions import get_session, model_of
from workers.plugin import IMAGE, Context, Family, Kept, OperationError, OutputSpec, PictureView, Result
from workers.tasks import TASKS
from workers.vision import detect, image_to_image, semantic_segmentation
from workers.vision.class_names import choose_classes

_REDRAWN_SIDE = TASKS["image"].usual_side


class OnnxParams(detect.FindingParams):
    """Parameters of detectors."""


class Onnx(Family[OnnxParams]):
    """Runs ONNX files: detectors, segmenters, classifiers and image-to-image models."""

    key = "onnx"
    title = "ONNX"
    summary = "Run a model that was exported to ONNX."
    description = (
        "Detectors with YOLO output layouts, classifiers, segmenters and image-to-image models. Inputs and "
        "outputs are read from the graph when it is uploaded."
    )
    version = 3
    outputs = (IMAGE, OutputSpec("detections", "data", "Detections"))
    Params = OnnxParams

    def keeps(self, params: OnnxParams, facts: Mapping[str, Any]) -> Kept:
        # An image-to-image graph may move content, for example mirror it.
        return "nothing" if facts["task"] == "image" else detect.keeps(params)

    def run(self, picture: PictureView, params: OnnxParams, context: Context) -> Result:
        facts = model_of(context).facts
        if facts["task"] == "image":
            return _redraw(picture, params, context)
        if facts["layout"] in PIXEL_LAYOUTS:
            return _label(picture, params, context)
        return detect.run(picture, params, context)

    def settings_for(self, facts: Mapping[str, Any]) -> tuple[str, ...]:
        return ("image_size",) if facts["task"] == "image" else detect.settings_for(facts)

    def choices_for(self, facts: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
        return detect.choices_for(facts)

    def recognize(self, upload: Any) -> str | None:
        return onnx_exports.recognize(upload)

    def convert(self, upload: Any) -> Any:
        return onnx_exports.convert(upload)


def _redraw(picture: PictureView, params: OnnxParams, context: Context) -> Result:
    if params.result != "draw":
        text = "This model returns an image, not detections. Set the result to “Annotated image”."
        raise OperationError(text, code="no_places")
    facts = model_of(context).facts
    side = params.input_side or _REDRAWN_SIDE
    return Result(image_to_image.redraw(picture, get_session(context), facts, side))


def _label(picture: PictureView, params: OnnxParams, context: Context) -> Result:
    facts = model_of(context).facts
    wanted = choose_classes(params.classes, facts["classes"])
    side = params.input_side
    own = (side, side) if side else (facts["input"]["width"], facts["input"]["height"])
    session = get_session(context)
    mean, std = facts.get("mean"), facts.get("std")
    if facts["layout"] == LABELS:
        count = len(facts["classes"])
        labels, shares = semantic_segmentation.read_labels(picture, session, own, mean, std, count)
    else:
        scores = (facts.get("architecture") or {}).get("scores", "")
        labels, shares = semantic_segmentation.label(picture, session, own, mean, std, scores)
    found = semantic_segmentation.find_regions(
        labels,
        shares,
        facts["classes"],
        (picture.width, picture.height),
        confidence=params.confidence,
        wanted=wanted,
    )
    return detect.make_result(picture, params, context, list(found)[: params.max_detections])
