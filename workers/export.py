"""From a torch module to ONNX, and the proof that both give the same."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.bundle import Bundle
from workers.checkpoints.upload import Refused
from workers.onnx_runtime import make_options

# Largest difference between ONNX Runtime and torch: |a - b| / (1 + |b|).
TOLERANCE = 1e-3
OPSET = 17
_SEED = 20_11

Floats = NDArray[np.float32]


def export(model: Any, facts: dict[str, Any], tensors: Mapping[str, Any]) -> Bundle:
    """Export a rebuilt YOLO to ONNX, run both and compare the outputs. Raises Refused.

    The export accepts any size that is a multiple of the stride. It is verified at the model's own square and
    at a rectangle. Classifiers, and networks that run only at that square, get a fixed input size.
    """
    import torch

    own, layout = facts["input"], facts["layout"]
    torch.manual_seed(_SEED)
    square = torch.rand(1, own["channels"], own["height"], own["width"])
    with torch.inference_mode():
        flops = count_flops(model, square)
    shown = ExportSample(square, _run(model, square))
    free = _export_free(model, layout, shown, facts["stride"]) if facts["task"] != "classify" else None
    onnx, difference = free or _export_fixed(model, layout, shown)
    return Bundle({**facts, "flops": flops, "rectangles": bool(free)}, tensors, onnx, difference, TOLERANCE)


@dataclass(frozen=True)
class ExportSample:
    """An input tensor and torch's outputs for it."""

    sample: Any
    wanted: list[Floats]


class _NeedsOneSizeError(Exception):
    """The network cannot run or be exported at another size than its own."""


def run_onnx(onnx: bytes, sample: Floats) -> list[Floats]:
    """Return ONNX Runtime's outputs for one input, computed on one thread."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, make_options(), providers=["CPUExecutionProvider"])
    outputs: list[Floats] = session.run(None, {session.get_inputs()[0].name: sample})
    return outputs


def count_flops(model: Any, sample: Any) -> int:
    """Return the floating-point operations of one run: two for each multiplication in its layers."""
    import torch

    total = 0

    def count(module: Any, _inputs: Any, output: Any) -> None:
        nonlocal total
        weight = module.weight
        if isinstance(module, torch.nn.ConvTranspose2d):
            per_value = weight.shape[0] * weight[0, 0].numel() // module.groups
            total += 2 * output.numel() * per_value // (module.stride[0] * module.stride[1])
        else:
            total += 2 * output.numel() * weight[0].numel()

    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, kinds)]
    try:
        model(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def flatten(outputs: Any) -> list[Any]:
    """Return the tensors of a nested output, in ONNX's order."""
    if isinstance(outputs, (list, tuple)):
        return [tensor for output in outputs for tensor in flatten(output)]
    return [outputs]


def compare(found: Floats, wanted: Floats) -> float:
    """Return the largest difference of two outputs, relative to 1 + |wanted|. Raises Refused."""
    if found.shape != wanted.shape:
        raise Refused(
            f"The exported model has an output of shape {found.shape} instead of {wanted.shape}.",
            code="difference",
        )
    if not found.size:
        return 0.0
    if not np.isfinite(found).all():
        # max() may skip a NaN, but never infinity.
        return math.inf
    return float(np.max(np.abs(found - wanted) / (1 + np.abs(wanted))))


def compare_rows(found: Floats, wanted: Floats, candidates: Floats) -> float:
    """Compare the rows of end-to-end heads, (1, n, 6 + more): box, score, class and more.

    Rows with nearly equal scores may swap places. So the scores are compared in sorted order, and each row
    with the nearest of all candidates, (1, m, 4 + classes + more), before top-k selection.
    """
    if not np.isfinite(found).all():
        return math.inf
    difference = compare(np.sort(found[..., 4]), np.sort(wanted[..., 4]))
    boxes, classes, more = candidates[0, :, :4], candidates[0, :, 4:], candidates.shape[2] - 4
    count = more - (found.shape[2] - 6)
    for row in found[0]:
        scores = classes[:, int(row[5])]
        near = np.concatenate([boxes, scores[:, None], classes[:, count:]], axis=1)
        own = np.concatenate([row[:5], row[6:]])
        gaps = np.max(np.abs(near - own) / (1 + np.abs(own)), axis=1)
        difference = max(difference, float(np.min(gaps)))
    return difference


def _export_free(model: Any, layout: str, shown: ExportSample, stride: int) -> tuple[bytes, float] | None:
    """Return an ONNX with free input size and its difference from torch. None: impossible or inexact."""
    import torch

    _, channels, height, width = shown.sample.shape
    # Both sides differ from those that the exporter traces.
    rectangle = torch.rand(1, channels, height + stride, max(1, width // stride // 2) * stride)
    try:
        with _raise_needs_one_size():
            with _with_free_sizes(model.model[-1]):
                onnx = _to_onnx(model, shown, is_free=True)
            pairs = (shown, ExportSample(rectangle, _run(model, rectangle)))
            difference = max(_measure(model, layout, onnx, pair) for pair in pairs)
    except _NeedsOneSizeError:
        return None
    return (onnx, difference) if difference <= TOLERANCE else None


@contextmanager
def _raise_needs_one_size() -> Iterator[None]:
    """Turn any error but MemoryError into _NeedsOneSizeError: torch and ONNX Runtime raise many types."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise _NeedsOneSizeError from error


def _export_fixed(model: Any, layout: str, shown: ExportSample) -> tuple[bytes, float]:
    onnx = _to_onnx(model, shown)
    return onnx, _measure(model, layout, onnx, shown)


def _run(model: Any, sample: Any) -> list[Floats]:
    """Return torch's outputs. Raises Refused if they are not finite."""
    import torch

    with torch.inference_mode():
        outputs = [output.numpy() for output in flatten(model(sample))]
    if not all(np.isfinite(output).all() for output in outputs):
        raise Refused("The model's outputs are not finite: they contain NaN or infinity.", code="numbers")
    return outputs


def _measure(model: Any, layout: str, onnx: bytes, shown: ExportSample) -> float:
    """Return the largest difference between the outputs of the ONNX and of torch. Raises Refused."""
    found, wanted, rows = run_onnx(onnx, shown.sample.numpy()), shown.wanted, 0.0
    if layout == "end-to-end":
        rows = compare_rows(found[0], wanted[0], _all_candidates(model, shown.sample))
        found, wanted = found[1:], wanted[1:]
    return max([rows, *(compare(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))])


@contextmanager
def _with_free_sizes(head: Any) -> Iterator[None]:
    """Make an Ultralytics head read its grid size from the input while it is traced."""
    import torch

    changed: dict[str, Any] = {"dynamic": True}
    if hasattr(head, "get_topk_index"):
        choose, sizes = head.get_topk_index, torch._shape_as_tensor
        changed["get_topk_index"] = lambda scores, most: choose(scores, sizes(scores)[1].clamp(max=most))
    before = {name: head.__dict__[name] for name in changed if name in head.__dict__}
    head.__dict__.update(changed)
    try:
        yield
    finally:
        for name in changed:
            del head.__dict__[name]
        head.__dict__.update(before)


def _to_onnx(model: Any, shown: ExportSample, *, is_free: bool = False) -> bytes:
    """Return a module as ONNX. Its input `images` has the sample's size, or free height and width."""
    import torch

    target = io.BytesIO()
    with warnings.catch_warnings():
        # The tracer follows one branch of each `if`. The comparison fails if a size needs the other branch.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (shown.sample,),
            target,
            opset_version=OPSET,
            input_names=["images"],
            output_names=[f"output{index}" for index in range(len(shown.wanted))],
            dynamic_axes={"images": {2: "height", 3: "width"}} if is_free else None,
            do_constant_folding=True,
            dynamo=False,
        )
    return target.getvalue()


def _all_candidates(model: Any, sample: Any) -> Floats:
    """Return an end-to-end head's predictions before top-k selection."""
    import torch

    head = model.model[-1]
    head.postprocess = lambda predictions: predictions
    try:
        with torch.inference_mode():
            candidates: Floats = flatten(model(sample))[0].numpy()
    finally:
        del head.postprocess
    return candidates
