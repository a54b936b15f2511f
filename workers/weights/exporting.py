"""From a torch module to ONNX, and the proof that both give the same."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.weights.bundle import Bundle
from workers.weights.upload import Refused

# How far an output may lie from torch's, in proportion to one more than its size.
TOLERANCE = 1e-3
OPSET = 17
_SEED = 20_11

Floats = NDArray[np.float32]


def export(model: Any, facts: dict[str, Any], tensors: Mapping[str, Any]) -> Bundle:
    """Write a rebuilt YOLO as ONNX for pictures of its input's size, run both, compare. Raises Refused."""
    import torch

    size = facts["input"]
    torch.manual_seed(_SEED)
    sample = torch.rand(1, size["channels"], size["height"], size["width"])
    with torch.inference_mode():
        flops = count_flops(model, sample)
        wanted = [output.numpy() for output in flatten(model(sample))]
    if not all(np.isfinite(output).all() for output in wanted):
        raise Refused(
            "Its numbers are not finite: the model gives nothing but NaN or infinity.", code="numbers"
        )
    onnx = to_onnx(model, sample, len(wanted))
    found = run_onnx(onnx, sample.numpy())
    if facts["layout"] == "end-to-end":
        difference = compare_rows(found[0], wanted[0], _all_candidates(model, sample))
        pairs = list(zip(found[1:], wanted[1:], strict=True))
    else:
        difference = 0.0
        pairs = list(zip(found, wanted, strict=True))
    difference = max([difference, *(compare(ours, theirs) for ours, theirs in pairs)])
    return Bundle({**facts, "flops": flops}, tensors, onnx, difference, TOLERANCE)


def to_onnx(model: Any, sample: Any, outputs: int) -> bytes:
    """Return a module as ONNX, its input called `images` and of the sample's size."""
    import torch

    target = io.BytesIO()
    with warnings.catch_warnings():
        # Branches that the tracer follows once are those of a fixed size, which is what is wanted.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (sample,),
            target,
            opset_version=OPSET,
            input_names=["images"],
            output_names=[f"output{index}" for index in range(outputs)],
            do_constant_folding=True,
            dynamo=False,
        )
    return target.getvalue()


def run_onnx(onnx: bytes, sample: Floats) -> list[Floats]:
    """Return the outputs that ONNX Runtime gives for one input, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
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
            per_number = weight.shape[0] * weight[0, 0].numel() // module.groups
            total += 2 * output.numel() * per_number // (module.stride[0] * module.stride[1])
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
    """Return the largest difference of two outputs, each in proportion to one more than its size."""
    if found.shape != wanted.shape:
        raise Refused("The exported model gives outputs of another shape.", code="difference")
    if not found.size:
        return 0.0
    return float(np.max(np.abs(found - wanted) / (1 + np.abs(wanted))))


def compare_rows(found: Floats, wanted: Floats, candidates: Floats) -> float:
    """Compare what end-to-end heads chose, (1, n, 6 + more): box, score, class and more.

    Scores that are all but equal may come in another order. So the scores are compared in order, and each row
    with the nearest of all candidates (1, m, 4 + classes + more) that the choice is made from.
    """
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


def _all_candidates(model: Any, sample: Any) -> Floats:
    """Return what an end-to-end head chooses from."""
    import torch

    head = model.model[-1]
    head.postprocess = lambda predictions: predictions
    try:
        with torch.inference_mode():
            candidates: Floats = flatten(model(sample))[0].numpy()
    finally:
        del head.postprocess
    return candidates
