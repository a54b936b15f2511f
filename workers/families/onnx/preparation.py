"""Check that an ONNX graph works with the preprocessing and classes of its config.json."""

from __future__ import annotations

from workers.checkpoints.upload import Refused, WeightsUpload
from workers.configs.model_config import Wishes, read_wishes
from workers.families.onnx.graph import Graph, Output, Size, list_sizes, try_sizes
from workers.families.onnx.output_layouts import PIXEL_LAYOUTS, OutputPlan
from workers.vision.detection_outputs import LAYOUTS


def try_as_said(graph: Graph, wishes: Wishes) -> tuple[Size, list[Output], float]:
    """Run `try_sizes`. Raises Refused, with the size of the config in the message."""
    try:
        return try_sizes(graph, list_sizes(graph, wishes))
    except Refused as refused:
        if refused.code != "runtime" or graph.shape[2] is not None or wishes.size is None:
            raise
        side = wishes.size
        text = (
            f"{refused.message} It ran with {side} × {side} pixels, from its config.json or metadata. If the "
            "graph needs another size, set it as “size”."
        )
        raise Refused(text, code=refused.code) from refused


def check_config(plan: OutputPlan, wishes: Wishes, graph: Graph, upload: WeightsUpload) -> None:
    """Raise Refused if the config has settings for images or classes that this graph does not support."""
    if plan.task == "classify" or plan.layout in PIXEL_LAYOUTS:
        if wishes.unclear:
            raise Refused(wishes.unclear, code="config")
    elif plan.layout not in LAYOUTS and (
        set(wishes.mean or [0.0]) != {0.0} or set(wishes.std or [1.0]) != {1.0}
    ):
        text = (
            "Its config.json has a mean or std of pixels. Image-to-image models do not support them, only "
            "“takes”. Normalize inside the graph, and remove them from the config.json."
        )
        raise Refused(text, code="config")
    if plan.task == "classify":
        _check_classes(plan, wishes)
        _check_size(graph, upload)
    if plan.layout in PIXEL_LAYOUTS and _is_special(wishes):
        text = (
            "Semantic segmentation models get the whole image, with bilinear resizing. Its config.json has "
            "another resample or do_center_crop."
        )
        raise Refused(text, code="config")


def _check_classes(plan: OutputPlan, wishes: Wishes) -> None:
    # A binary classifier has one output, and may have one label.
    if wishes.count not in (None, plan.classes) and (wishes.count, plan.classes) != (1, 2):
        text = (
            f"Its config.json has {wishes.count} classes, but the model has {plan.classes}. Upload the "
            "config.json of this model."
        )
        raise Refused(text, code="config")


def _check_size(graph: Graph, upload: WeightsUpload) -> None:
    """Raise Refused if a graph with a fixed size has a config for another size."""
    said = read_wishes(upload.config, {}).size
    if graph.shape[2] is not None and said not in (None, graph.shape[2]):
        text = (
            f"Its config.json has a size of {said} × {said} pixels, but the graph has {graph.shape[3]} × "
            f"{graph.shape[2]}. Upload the config.json of this model, or export it for the other size."
        )
        raise Refused(text, code="config")


def _is_special(wishes: Wishes) -> bool:
    return (
        wishes.resample not in (None, "bilinear")
        or wishes.crop_pct not in (None, 1)
        or wishes.stretch is False
    )
