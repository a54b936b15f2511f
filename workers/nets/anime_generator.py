"""The generator of AnimeGANv2: inverted residual blocks between bilinear doublings.

Source: Chen et al. 2020, in the layout of animegan2-pytorch.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from workers.nets.plan import MOST_BLOCKS, MOST_FEATURES, NetworkPlan, Shapes, count_blocks, same_names


def _conv(
    inner: int, outer: int, side: int = 3, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Sequential:
    pad: Any = (0, 1, 0, 1) if stride == 2 else side // 2
    return nn.Sequential(
        nn.ReflectionPad2d(pad),
        nn.Conv2d(inner, outer, side, stride, groups=groups, bias=bias),
        nn.GroupNorm(1, outer),
        nn.LeakyReLU(0.2),
    )


class _Inverted(nn.Module):
    """Inverted residual block: expand, depthwise convolution, project; a shortcut if the width stays."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        wide = inner * 2
        self.shortcut = inner == outer
        self.layers = nn.Sequential(
            _conv(inner, wide, 1),
            _conv(wide, wide, groups=wide, bias=True),
            nn.Conv2d(wide, outer, 1, bias=False),
            nn.GroupNorm(1, outer),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.shortcut else y


class AnimeGenerator(nn.Module):
    """Maps images (n, 3, h, w) of -1 to 1 to images of the same size. h and w are multiples of 4."""

    def __init__(self, *, features: int, blocks: int) -> None:
        super().__init__()
        wide, wider, widest = features * 2, features * 4, features * 8
        self.block_a = nn.Sequential(
            _conv(3, features, 7), _conv(features, wide, stride=2), _conv(wide, wide)
        )
        self.block_b = nn.Sequential(_conv(wide, wider, stride=2), _conv(wider, wider))
        inverted = [_Inverted(wider if number == 0 else widest, widest) for number in range(blocks)]
        self.block_c = nn.Sequential(_conv(wider, wider), *inverted, _conv(widest, wider))
        self.block_d = nn.Sequential(_conv(wider, wider), _conv(wider, wider))
        self.block_e = nn.Sequential(_conv(wider, wide), _conv(wide, wide), _conv(wide, features, 7))
        self.out_layer = nn.Sequential(nn.Conv2d(features, 3, 1, bias=False), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        half = self.block_a(x)
        y = self.block_c(self.block_b(half))
        y = self.block_d(_enlarge(y, half))
        return self.out_layer(self.block_e(_enlarge(y, x)))


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


def read(shapes: Shapes) -> NetworkPlan | None:
    """Return the plan of this generator, recognized by its tensor names, or None."""
    first = shapes.get("block_a.0.1.weight", ())
    blocks = count_blocks(shapes, "block_c.{}.layers.0.1.weight", 1)
    known = len(first) == 4 and first[1:] == (3, 7, 7) and "out_layer.0.weight" in shapes
    if not known or not 1 <= blocks <= MOST_BLOCKS or first[0] * 8 > MOST_FEATURES:
        return None
    return NetworkPlan(
        net="anime_generator",
        title="AnimeGANv2 generator",
        settings={"features": first[0], "blocks": blocks},
        names=same_names(shapes),
        channels=(3, 3),
        values="tanh",
        mode="whole",
        stride=4,
    )
