"""A network as ONNX: written, held against itself, and measured."""

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
    """Return the network as ONNX, from `input` to `output`. `axes` names those whose size may change."""
    target = io.BytesIO()
    dynamic = {"input": dict(axes), "output": dict(axes)} if axes else None
    # The exporter tells of its own future, and of sizes that it took for constants: `compare` tries others.
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
    """How far the outputs of both lie apart at most, over all examples."""
    session = open_session(onnx)
    apart = 0.0
    for example in examples:
        with torch.no_grad():
            ours = net(example).numpy()
        theirs = session.run(example.numpy())[0]
        if ours.shape != theirs.shape or not np.isfinite(theirs).all():
            return float("inf")
        apart = max(apart, float(np.abs(ours - theirs).max()))
    return apart


def count_parameters(net: nn.Module) -> int:
    """How many numbers were learnt."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_flops(net: nn.Module, example: Tensor) -> int:
    """Floating-point operations for one example, a multiplication with its addition counted as two."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(example)
    return int(counter.get_total_flops())


def measure_peak(net: nn.Module, example: Tensor) -> int:
    """The most bytes that any one layer takes for an example: what it reads, writes, and lays out between.

    A transposed convolution is a product of matrices, whose result is as large as the input times the kernel.
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
    """How many pixels away from a change the output is the same as without it, in whole strides.

    Tried on noise, and on an edge from black to white, with everything on the other side changed.

    Args:
        most: returned where the change is felt as far as that.
        tolerance: what counts as the same, in parts of white.
    """
    most = -(-most // stride) * stride
    generator = torch.Generator().manual_seed(1)
    height = max(32, -(-32 // stride) * stride)
    noise = torch.rand((2, channels, height, 2 * most), generator=generator)
    reach = 0
    for left, right in ((noise[0], noise[1]), (torch.zeros_like(noise[0]), torch.ones_like(noise[0]))):
        changed = torch.cat([left[..., :most], right[..., most:]], -1)
        with torch.no_grad():
            apart = (net(left[None]) - net(changed[None])).abs().amax(dim=(0, 1, 2))
        scale = apart.shape[0] // (2 * most)
        felt = torch.nonzero(apart[: most * scale] > tolerance)
        if len(felt):
            reach = max(reach, most - int(felt[0]) // scale)
    return -(-reach // stride) * stride


def check_numbers(net: nn.Module) -> None:
    """Raises Refused where a tensor holds what is no number, as a failed training leaves it."""
    for name, tensor in net.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise Refused(f"The tensor {name} has entries that are no numbers.", code="numbers")
