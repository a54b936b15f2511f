"""Export a network to ONNX, compare both, and measure parameters, FLOPs, memory and receptive field."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workers.checkpoints.upload import Refused
from workers.inference.sessions import open_session

OPSET = 18
Axes = Mapping[int, str]


def export(net: nn.Module, example: Tensor, axes: Axes) -> bytes:
    """Return the network as ONNX, from `input` to `output`. `axes` names the axes with free size."""
    target = io.BytesIO()
    dynamic = {"input": dict(axes), "output": dict(axes)} if axes else None
    # The exporter warns of deprecations, and of sizes that became constants. `compare` tries other sizes.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (example,),
            target,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )
    return target.getvalue()


def compare(net: nn.Module, onnx: bytes, examples: Sequence[Tensor]) -> float:
    """Return the largest difference between the outputs of both, over all examples."""
    session = open_session(onnx)
    difference = 0.0
    for example in examples:
        with torch.no_grad():
            ours = net(example).numpy()
        theirs = session.run(example.numpy())[0]
        if ours.shape != theirs.shape or not np.isfinite(theirs).all():
            return float("inf")
        difference = max(difference, float(np.abs(ours - theirs).max()))
    return difference


def count_parameters(net: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_flops(net: nn.Module, example: Tensor) -> int:
    """Return the floating-point operations for one example. A multiply-add counts as two."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(example)
    return int(counter.get_total_flops())


def measure_peak(net: nn.Module, example: Tensor) -> int:
    """Return the largest memory of one layer for an example, in bytes: input, output and buffers.

    A transposed convolution buffers a matrix product as large as the input times the kernel.
    """
    peak = 0

    def look(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal peak
        held = sum(t.numel() * t.element_size() for t in (*inputs, output) if isinstance(t, Tensor))
        if isinstance(layer, nn.ConvTranspose2d):
            held += inputs[0][0, 0].numel() * layer.weight[0].numel() * output.element_size()
        peak = max(peak, held)

    hooks = [layer.register_forward_hook(look) for layer in net.modules() if not list(layer.children())]
    with torch.no_grad():
        net(example)
    for hook in hooks:
        hook.remove()
    return peak


def measure_reach(net: nn.Module, channels: int, stride: int, *, most: int, tolerance: float) -> int:
    """Return the distance in pixels, in whole strides, beyond which a change does not affect the output.

    Measured on noise, and on an edge from black to white, with everything on the other side changed.

    Args:
        most: upper limit of the result.
        tolerance: largest difference that counts as equal, as a fraction of white.
    """
    most = -(-most // stride) * stride
    generator = torch.Generator().manual_seed(1)
    height = max(32, -(-32 // stride) * stride)
    noise = torch.rand((2, channels, height, 2 * most), generator=generator)
    reach = 0
    for left, right in ((noise[0], noise[1]), (torch.zeros_like(noise[0]), torch.ones_like(noise[0]))):
        changed = torch.cat([left[..., :most], right[..., most:]], -1)
        with torch.no_grad():
            difference = (net(left[None]) - net(changed[None])).abs().amax(dim=(0, 1, 2))
        scale = difference.shape[0] // (2 * most)
        affected = torch.nonzero(difference[: most * scale] > tolerance)
        if len(affected):
            reach = max(reach, most - int(affected[0]) // scale)
    return -(-reach // stride) * stride


def check_numbers(net: nn.Module) -> None:
    """Raise Refused if a tensor contains NaN or infinity, for example after a failed training."""
    for name, tensor in net.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise Refused(f"The tensor {name} contains NaN or infinity.", code="numbers")
