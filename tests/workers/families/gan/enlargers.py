"""Weights of networks that enlarge, as others save them, and what each must do, layer by layer.

As in `generators`, nothing of `workers.nets` is used.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tests.workers.families.gan.layers import Draw, Sample, run_conv


def srvgg(scale: int = 2, features: int = 8, convolutions: int = 2, channels: int = 3) -> Sample:
    d = Draw()
    last = 2 * convolutions + 2
    d.conv("body.0", features, channels, 3)
    for layer in range(1, last):
        if layer % 2:
            d.state[f"body.{layer}.weight"] = d.normal(features, scale=0.1, around=0.2)
        else:
            d.conv(f"body.{layer}", features, features, 3)
    d.conv(f"body.{last}", channels * scale**2, features, 3)
    d.state[f"body.{last}.weight"] *= 0.2
    s = d.state

    def forward(x: Tensor) -> Tensor:
        y = x
        for layer in range(last):
            if layer % 2:
                y = functional.prelu(y, s[f"body.{layer}.weight"])
            else:
                y = run_conv(s, f"body.{layer}", y, padding=1)
        y = functional.pixel_shuffle(run_conv(s, f"body.{last}", y, padding=1), scale)
        return (y + functional.interpolate(x, scale_factor=scale, mode="nearest")).clamp(0, 1)

    return Sample(s, forward)


@dataclass(frozen=True)
class RRDBNames:
    """What one of the layouts calls the parts of the same network."""

    first: str
    dense: str
    trunk: str
    ups: tuple[str, ...]
    hr: str
    last: str


BASICSR = RRDBNames(
    "conv_first", "body.{}.rdb{}.conv{}", "conv_body", ("conv_up1", "conv_up2"), "conv_hr", "conv_last"
)
LATER = RRDBNames(
    "conv_first", "RRDB_trunk.{}.RDB{}.conv{}", "trunk_conv", ("upconv1", "upconv2"), "HRconv", "conv_last"
)


def first_release(blocks: int, doublings: int) -> RRDBNames:
    ups = {0: (), 1: ("model.3",), 2: ("model.3", "model.6"), 3: ("model.3", "model.6", "model.9")}[doublings]
    hr, last = {0: (2, 4), 1: (5, 7), 2: (8, 10), 3: (11, 13)}[doublings]
    dense = "model.1.sub.{}.RDB{}.conv{}.0"
    return RRDBNames("model.0", dense, f"model.1.sub.{blocks}", ups, f"model.{hr}", f"model.{last}")


def rrdb(
    names: RRDBNames = BASICSR, blocks: int = 2, fold: int = 1, features: int = 8, growth: int = 4
) -> Sample:
    d = Draw()
    d.conv(names.first, features, 3 * fold**2, 3)
    for block, dense, conv in itertools.product(range(blocks), (1, 2, 3), range(1, 6)):
        outer = features if conv == 5 else growth
        d.conv(names.dense.format(block, dense, conv), outer, features + (conv - 1) * growth, 3)
    for name in (names.trunk, *names.ups, names.hr):
        d.conv(name, features, features, 3)
    d.conv(names.last, 3, features, 3)
    d.state[f"{names.last}.weight"] *= 0.1
    d.state[f"{names.last}.bias"] += 0.5
    s = d.state

    def run_dense(x: Tensor, block: int, dense: int) -> Tensor:
        every = [x]
        for conv in range(1, 5):
            made = run_conv(s, names.dense.format(block, dense, conv), torch.cat(every, 1), padding=1)
            every.append(functional.leaky_relu(made, 0.2))
        return 0.2 * run_conv(s, names.dense.format(block, dense, 5), torch.cat(every, 1), padding=1) + x

    def forward(x: Tensor) -> Tensor:
        first = run_conv(s, names.first, _fold(x, fold), padding=1)
        y = first
        for block in range(blocks):
            z = run_dense(run_dense(run_dense(y, block, 1), block, 2), block, 3)
            y = 0.2 * z + y
        y = first + run_conv(s, names.trunk, y, padding=1)
        for name in names.ups:
            y = y.repeat_interleave(2, 2).repeat_interleave(2, 3)
            y = functional.leaky_relu(run_conv(s, name, y, padding=1), 0.2)
        y = functional.leaky_relu(run_conv(s, names.hr, y, padding=1), 0.2)
        return run_conv(s, names.last, y, padding=1).clamp(0, 1)

    return Sample(s, forward)


def _fold(x: Tensor, side: int) -> Tensor:
    """Each square of pixels becomes one pixel of as many channels."""
    n, c, h, w = x.shape
    squares = x.view(n, c, h // side, side, w // side, side).permute(0, 1, 3, 5, 2, 4)
    return squares.reshape(n, c * side**2, h // side, w // side)
