"""Conversion of generator weights: rebuild the network, export it to ONNX, and compare both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workers.bundle import Bundle
from workers.checkpoints.upload import Refused, WeightsUpload
from workers.nets import catalogue, export
from workers.nets.export import check_numbers
from workers.nets.plan import NetworkPlan
from workers.tasks import TASKS

# Half a step of 8-bit values.
TOLERANCE = 1 / 510
# Largest margin of tiles in pixels. Effects beyond it are hidden by the fade between tiles.
MOST_MARGIN = 48
# Side of the image for which FLOPs are counted. It is a multiple of every stride.
FLOPS_SIDE = TASKS["image"].usual_side


def recognize(upload: WeightsUpload) -> str | None:
    """Return the title of the generator architecture, or None if the weights are not a generator."""
    found = catalogue.find(upload.tensors)
    return None if found is None else found.plan.title


def convert(upload: WeightsUpload) -> Bundle:
    """Rebuild a generator. Raises Refused."""
    found = catalogue.find(upload.tensors)
    if found is None:
        raise Refused("These weights do not match a supported generator architecture.", code="unknown")
    plan, tensors = found.plan, found.tensors
    found.check_copy()
    check_channels(plan)
    outline, net = catalogue.outline(plan.as_json()), catalogue.build(plan.as_json(), tensors)
    check_numbers(net)
    examples = _draw_examples(plan)
    onnx = export.export(net, examples[0], _name_axes(plan))
    facts = {
        "family": "gan",
        "task": "image",
        "title": plan.title,
        "averaged": found.reading.shown_name,
        "input": {"width": _input_side(plan), "height": _input_side(plan), "channels": plan.channels[0]},
        "stride": plan.stride,
        "scale": plan.scale if plan.mode != "noise" else None,
        "parameters": export.count_parameters(net),
        "flops": export.count_flops(outline, _make_empty(plan, FLOPS_SIDE)),
        "layout": plan.mode,
        "architecture": {
            **plan.as_json(),
            "channels_out": plan.channels[1],
            "flops_side": FLOPS_SIDE,
            **_measure(net, outline, plan),
        },
    }
    difference = export.compare(net, onnx, examples)
    return Bundle(facts, net.net.state_dict(), onnx, difference, TOLERANCE)


def check_channels(plan: NetworkPlan) -> None:
    """Raise Refused if the channels are not those of an image."""
    wanted = [plan.channels[1]] if plan.mode == "noise" else plan.channels
    if any(count not in (1, 3) for count in wanted):
        text = f"It maps {plan.channels[0]} channels to {plan.channels[1]}. Images have 3, or 1 if gray."
        raise Refused(text, code="channels")


def _measure(net: nn.Module, outline: nn.Module, plan: NetworkPlan) -> dict[str, Any]:
    """Return the memory of a pixel and, for tiles, the receptive field margin."""
    if plan.mode == "noise":
        return {"side": plan.scale}
    peak = export.measure_peak(outline, _make_empty(plan, FLOPS_SIDE))
    measured = {"pixel_bytes": -(-peak // FLOPS_SIDE**2)}
    if plan.mode == "tiles":
        # A quarter of an 8-bit step, so adjacent tiles never differ by one.
        measured["margin"] = export.measure_reach(
            net, plan.channels[0], plan.stride, most=MOST_MARGIN, tolerance=1 / 1020
        )
    return measured


def _draw_examples(plan: NetworkPlan) -> list[Tensor]:
    """Return inputs of two sizes. The first is used for the export, the second to test other sizes."""
    generator = torch.Generator().manual_seed(1)
    if plan.mode == "noise":
        return [torch.randn(count, plan.channels[0], 1, 1, generator=generator) for count in (1, 3)]
    least = max(32, plan.stride)
    longer = least + max(16, plan.stride) // plan.stride * plan.stride
    shapes = [(least, least), (least, longer)]
    return [torch.rand(1, plan.channels[0], *shape, generator=generator) for shape in shapes]


def _make_empty(plan: NetworkPlan, side: int) -> Tensor:
    """Return an input on the meta device, for counting without memory."""
    shape = (1, 1) if plan.mode == "noise" else (side, side)
    return torch.empty(1, plan.channels[0], *shape, device="meta")


def _name_axes(plan: NetworkPlan) -> dict[int, str]:
    return {0: "count"} if plan.mode == "noise" else {2: "height", 3: "width"}


def _input_side(plan: NetworkPlan) -> int:
    """Return the side of the input in pixels; 0: any size."""
    return 1 if plan.mode == "noise" else 0
