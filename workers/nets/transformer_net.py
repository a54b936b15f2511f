"""The style network of fast neural style: residual blocks between halvings and nearest-neighbor doublings.

Source: Johnson et al. 2016; Ulyanov et al. 2016, in the layout of PyTorch's own example.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.nets.norms import LEFTOVERS
from workers.nets.plan import MOST_BLOCKS, MOST_FEATURES, NetworkPlan, Shapes, count_blocks, same_names


class _Conv(nn.Module):
    """A convolution with mirrored borders, after an optional doubling."""

    def __init__(self, inner: int, outer: int, side: int, *, stride: int = 1, double: bool = False) -> None:
        super().__init__()
        self.double = double
        self.reflection_pad = nn.ReflectionPad2d(side // 2)
        self.conv2d = nn.Conv2d(inner, outer, side, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.double:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv2d(self.reflection_pad(x))


class _ResidualBlock(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = _Conv(features, features, 3)
        self.in1 = nn.InstanceNorm2d(features, affine=True)
        self.conv2 = _Conv(features, features, 3)
        self.in2 = nn.InstanceNorm2d(features, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.in1(self.conv1(x)))
        return x + self.in2(self.conv2(y))


class TransformerNet(nn.Module):
    """Maps images (n, 3, h, w) of 0 to 255 to images of the same size. h and w are multiples of 4."""

    def __init__(self, *, features: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = _Conv(3, features, 9)
        self.in1 = nn.InstanceNorm2d(features, affine=True)
        self.conv2 = _Conv(features, features * 2, 3, stride=2)
        self.in2 = nn.InstanceNorm2d(features * 2, affine=True)
        self.conv3 = _Conv(features * 2, features * 4, 3, stride=2)
        self.in3 = nn.InstanceNorm2d(features * 4, affine=True)
        self.blocks = [f"res{number}" for number in range(1, blocks + 1)]
        for name in self.blocks:
            self.add_module(name, _ResidualBlock(features * 4))
        self.deconv1 = _Conv(features * 4, features * 2, 3, double=True)
        self.in4 = nn.InstanceNorm2d(features * 2, affine=True)
        self.deconv2 = _Conv(features * 2, features, 3, double=True)
        self.in5 = nn.InstanceNorm2d(features, affine=True)
        self.deconv3 = _Conv(features, 3, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.in1(self.conv1(x)))
        y = torch.relu(self.in2(self.conv2(y)))
        y = torch.relu(self.in3(self.conv3(y)))
        for name in self.blocks:
            y = self.get_submodule(name)(y)
        y = torch.relu(self.in4(self.deconv1(y)))
        y = torch.relu(self.in5(self.deconv2(y)))
        return self.deconv3(y)


def read(shapes: Shapes) -> NetworkPlan | None:
    """Return the plan of this network, recognized by its tensor names, or None."""
    first = shapes.get("conv1.conv2d.weight", ())
    blocks = count_blocks(shapes, "res{}.conv1.conv2d.weight", 1)
    known = len(first) == 4 and first[1:] == (3, 9, 9) and "deconv3.conv2d.weight" in shapes
    if not known or not 1 <= blocks <= MOST_BLOCKS or first[0] > MOST_FEATURES:
        return None
    return NetworkPlan(
        net="transformer_net",
        title="Fast neural style",
        settings={"features": first[0], "blocks": blocks},
        names=same_names(shapes, LEFTOVERS),
        channels=(3, 3),
        values="bytes",
        mode="whole",
        stride=4,
    )
