"""From an upload to a generator that runs: built, exported, compared and measured."""

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

# Half a step of eight bits.
TOLERANCE = 1 / 510
# Beyond this many pixels what a change still does is faded over.
MOST_MARGIN = 48
# Of the picture that floating-point operations are counted for. Every stride divides it.
FLOPS_SIDE = TASKS["image"].usual_side


def recognise(upload: WeightsUpload) -> str | None:
    """Return what these weights are called where they are a generator's, else None."""
    found = catalogue.find(upload.tensors)
    return None if found is None else found.plan.title


def convert(upload: WeightsUpload) -> Bundle:
    """Rebuild a generator. Raises Refused."""
    found = catalogue.find(upload.tensors)
    if found is None:
        raise Refused("These are not the weights of a generator that is known here.", code="unknown")
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
    """Raises Refused for what is no picture."""
    wanted = [plan.channels[1]] if plan.mode == "noise" else plan.channels
    if any(count not in (1, 3) for count in wanted):
        text = f"It makes {plan.channels[1]} channels of {plan.channels[0]}; pictures have 3, or 1 in grey."
        raise Refused(text, code="channels")


def _measure(net: nn.Module, outline: nn.Module, plan: NetworkPlan) -> dict[str, Any]:
    """How far pixels depend on each other, and the memory that a pixel takes."""
    if plan.mode == "noise":
        return {"side": plan.scale}
    peak = export.measure_peak(outline, _make_empty(plan, FLOPS_SIDE))
    measured = {"pixel_bytes": -(-peak // FLOPS_SIDE**2)}
    if plan.mode == "tiles":
        # A quarter of a step of eight bits, so that two tiles side by side never differ by one.
        measured["margin"] = export.measure_reach(
            net, plan.channels[0], plan.stride, most=MOST_MARGIN, tolerance=1 / 1020
        )
    return measured


def _draw_examples(plan: NetworkPlan) -> list[Tensor]:
    """Inputs of two sizes, the second unlike the one that is exported."""
    generator = torch.Generator().manual_seed(1)
    if plan.mode == "noise":
        return [torch.randn(count, plan.channels[0], 1, 1, generator=generator) for count in (1, 3)]
    least = max(32, plan.stride)
    longer = least + max(16, plan.stride) // plan.stride * plan.stride
    shapes = [(least, least), (least, longer)]
    return [torch.rand(1, plan.channels[0], *shape, generator=generator) for shape in shapes]


def _make_empty(plan: NetworkPlan, side: int) -> Tensor:
    """An input without memory, for what is only counted."""
    shape = (1, 1) if plan.mode == "noise" else (side, side)
    return torch.empty(1, plan.channels[0], *shape, device="meta")


def _name_axes(plan: NetworkPlan) -> dict[int, str]:
    return {0: "count"} if plan.mode == "noise" else {2: "height", 3: "width"}


def _input_side(plan: NetworkPlan) -> int:
    """0: any size will do."""
    return 1 if plan.mode == "noise" else 0
