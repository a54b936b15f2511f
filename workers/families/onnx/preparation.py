"""Whether an uploaded graph can be shown images, and its outputs read, as the config.json says."""

from __future__ import annotations

from workers.checkpoints.upload import Refused, WeightsUpload
from workers.configs.model_config import Wishes, read_wishes
from workers.families.onnx.graph import Graph, Output, Size, list_sizes, try_sizes
from workers.families.onnx.output_layouts import PIXEL_LAYOUTS, OutputPlan
from workers.vision.detection_outputs import LAYOUTS


def try_as_said(graph: Graph, wishes: Wishes) -> tuple[Size, list[Output], float]:
    """Return what `try_sizes` does. Raises Refused, which names the size if the config says it."""
    try:
        return try_sizes(graph, list_sizes(graph, wishes))
    except Refused as refused:
        if refused.code != "runtime" or graph.shape[2] is not None or wishes.size is None:
            raise
        side = wishes.size
        text = (
            f"{refused.message} It was shown {side} × {side} pixels, as its config.json or metadata says: "
            "where the graph takes another size, say that one as “size”."
        )
        raise Refused(text, code=refused.code) from refused


def check_config(plan: OutputPlan, wishes: Wishes, graph: Graph, upload: WeightsUpload) -> None:
    """Raise Refused for what a config says of images or classes and is not done with this graph."""
    if plan.task == "classify" or plan.layout in PIXEL_LAYOUTS:
        if wishes.unclear:
            raise Refused(wishes.unclear, code="config")
    elif plan.layout not in LAYOUTS and (
        set(wishes.mean or [0.0]) != {0.0} or set(wishes.std or [1.0]) != {1.0}
    ):
        text = (
            "Its config.json says a mean or a deviation of pixels. Models that make pictures are shown none: "
            "“takes” says what they see. Normalize within the graph, and take them out."
        )
        raise Refused(text, code="config")
    if plan.task == "classify":
        _check_classes(plan, wishes)
        _check_size(graph, upload)
    if plan.layout in PIXEL_LAYOUTS and _is_special(wishes):
        text = (
            "Models that give each pixel a class are shown the whole image, resized by bilinear "
            "interpolation. Its config.json says otherwise (resample or do_center_crop)."
        )
        raise Refused(text, code="config")


def _check_classes(plan: OutputPlan, wishes: Wishes) -> None:
    # One number tells two classes apart, and may be called one label.
    if wishes.count not in (None, plan.classes) and (wishes.count, plan.classes) != (1, 2):
        text = (
            f"Its config.json says {wishes.count} classes, and it has {plan.classes}. Send the config.json "
            "that belongs to it."
        )
        raise Refused(text, code="config")


def _check_size(graph: Graph, upload: WeightsUpload) -> None:
    """A graph for one size is shown that. A config for another is not its own."""
    said = read_wishes(upload.config, {}).size
    if graph.shape[2] is not None and said not in (None, graph.shape[2]):
        text = (
            f"Its config.json says images of {said} × {said} pixels, and the graph takes {graph.shape[3]} × "
            f"{graph.shape[2]}. Send the config.json that belongs to it, or export it for the other size."
        )
        raise Refused(text, code="config")


def _is_special(wishes: Wishes) -> bool:
    return (
        wishes.resample not in (None, "bilinear")
        or wishes.crop_pct not in (None, 1)
        or wishes.stretch is False
    )
