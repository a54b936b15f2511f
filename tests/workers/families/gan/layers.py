"""Layers of network specifications, with random tensors, for `generators` and `enlargers`."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from workers.checkpoints.upload import WeightsUpload

State = OrderedDict[str, Tensor]


@dataclass(frozen=True)
class Sample:
    """A checkpoint and its forward pass, from pictures of 0 to 1 to pictures of 0 to 1."""

    state: State
    forward: Callable[[Tensor], Tensor]


def upload_of(tensors: dict[str, Tensor], **more: object) -> WeightsUpload:
    return WeightsUpload("torch", Path("weights.pth"), tensors, **more)


class Draw:
    """Draws tensors that keep what goes through them at about one size."""

    def __init__(self, seed: int = 1) -> None:
        self.state: State = OrderedDict()
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0, around: float = 0.0) -> Tensor:
        return around + scale * torch.randn(*shape, generator=self._generator)

    def conv(self, name: str, outer: int, inner: int, side: int, *, bias: bool = True) -> None:
        scale = math.sqrt(2 / (inner * side**2))
        self.state[f"{name}.weight"] = self.normal(outer, inner, side, side, scale=scale)
        if bias:
            self.state[f"{name}.bias"] = self.normal(outer, scale=0.1)

    def up(self, name: str, inner: int, outer: int, side: int, *, bias: bool = True) -> None:
        scale = math.sqrt(4 / (inner * side**2))
        self.state[f"{name}.weight"] = self.normal(inner, outer, side, side, scale=scale)
        if bias:
            self.state[f"{name}.bias"] = self.normal(outer, scale=0.1)

    def affine(self, name: str, features: int) -> None:
        self.state[f"{name}.weight"] = self.normal(features, scale=0.2, around=1.0)
        self.state[f"{name}.bias"] = self.normal(features, scale=0.1)

    def batch(self, name: str, features: int) -> None:
        self.affine(name, features)
        self.state[f"{name}.running_mean"] = self.normal(features, scale=0.1)
        self.state[f"{name}.running_var"] = 0.5 + self.normal(features).abs()
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def run_conv(s: State, name: str, x: Tensor, *, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
    return functional.conv2d(
        x, s[f"{name}.weight"], s.get(f"{name}.bias"), stride=stride, padding=padding, groups=groups
    )


def run_up(s: State, name: str, x: Tensor, **kw: int) -> Tensor:
    return functional.conv_transpose2d(x, s[f"{name}.weight"], s.get(f"{name}.bias"), **kw)


def run_norm(s: State, name: str, x: Tensor) -> Tensor:
    weight, bias = s.get(f"{name}.weight"), s.get(f"{name}.bias")
    if weight is not None and f"{name}.running_mean" in s:
        return functional.batch_norm(x, s[f"{name}.running_mean"], s[f"{name}.running_var"], weight, bias)
    return functional.instance_norm(x, weight=weight, bias=bias)


def mirror(x: Tensor, by: int | tuple[int, int, int, int]) -> Tensor:
    return functional.pad(x, (by,) * 4 if isinstance(by, int) else by, mode="reflect")


def tanh_picture(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: (run(x * 2 - 1) + 1) / 2
