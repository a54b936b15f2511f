"""Weights of generators as others save them, drawn at random, and what each must do, layer by layer.

Names and forward passes are written down here a second time, from the layouts of those who publish such
weights: nothing of `workers.nets` is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tests.workers.families.gan.layers import (
    Draw,
    Sample,
    State,
    mirror,
    run_conv,
    run_norm,
    run_up,
    tanh_picture,
)


def resnet(norm: str = "instance", blocks: int = 2, features: int = 4, *, dropout: bool = False) -> Sample:
    second = 6 if dropout else 5
    after = 10 + blocks
    s = _draw_resnet(norm, blocks, features, second)

    def forward(x: Tensor) -> Tensor:
        y = torch.relu(run_norm(s, "model.2", run_conv(s, "model.1", mirror(x, 3))))
        for index in (4, 7):
            y = torch.relu(
                run_norm(s, f"model.{index + 1}", run_conv(s, f"model.{index}", y, stride=2, padding=1))
            )
        for block in range(10, after):
            name = f"model.{block}.conv_block"
            z = torch.relu(run_norm(s, f"{name}.2", run_conv(s, f"{name}.1", mirror(y, 1))))
            y = y + run_norm(s, f"{name}.{second + 1}", run_conv(s, f"{name}.{second}", mirror(z, 1)))
        for index in (after, after + 3):
            y = run_up(s, f"model.{index}", y, stride=2, padding=1, output_padding=1)
            y = torch.relu(run_norm(s, f"model.{index + 1}", y))
        return torch.tanh(run_conv(s, f"model.{after + 7}", mirror(y, 3)))

    return Sample(s, tanh_picture(forward))


def _draw_resnet(norm: str, blocks: int, features: int, second: int) -> State:
    """`second` is the number of the second convolution inside a block."""
    d = Draw()
    bias = norm == "instance"

    def add_norm(name: str, width: int) -> None:
        if norm == "batch":
            d.batch(name, width)

    d.conv("model.1", features, 3, 7, bias=bias)
    add_norm("model.2", features)
    for index, width in ((4, features), (7, features * 2)):
        d.conv(f"model.{index}", width * 2, width, 3, bias=bias)
        add_norm(f"model.{index + 1}", width * 2)
    wide = features * 4
    for block in range(10, 10 + blocks):
        for index in (1, second):
            d.conv(f"model.{block}.conv_block.{index}", wide, wide, 3, bias=bias)
            add_norm(f"model.{block}.conv_block.{index + 1}", wide)
    after = 10 + blocks
    for index, width in ((after, wide), (after + 3, wide // 2)):
        d.up(f"model.{index}", width, width // 2, 3, bias=bias)
        add_norm(f"model.{index + 1}", width // 2)
    d.conv(f"model.{after + 7}", 3, features, 7)
    d.state[f"model.{after + 7}.weight"] *= 0.3
    return d.state


def unet(norm: str = "batch", widths: Sequence[int] = (4, 8, 8, 8)) -> Sample:
    d = Draw()
    bias = norm == "instance"
    levels = len(widths)
    outer = (3, *widths)
    paths = ["model.model"] + ["model.model.1.model" + ".3.model" * deep for deep in range(levels - 1)]

    def layers(level: int) -> tuple[str, str, str, str]:
        """Names of the convolution down, its norm, the convolution up and its norm."""
        path = paths[level]
        down, down_norm, up, up_norm = (0, None, 3, None) if level == 0 else (1, 2, 5, 6)
        if level == levels - 1:
            down, down_norm, up, up_norm = 1, None, 3, 4
        return f"{path}.{down}", f"{path}.{down_norm}", f"{path}.{up}", f"{path}.{up_norm}"

    for level in range(levels):
        down, down_norm, up, up_norm = layers(level)
        top, bottom = level == 0, level == levels - 1
        d.conv(down, outer[level + 1], outer[level], 4, bias=bias)
        made = 3 if top else outer[level]
        d.up(up, outer[level + 1] * (1 if bottom else 2), made, 4, bias=bias or top)
        if norm == "batch" and not top:
            d.batch(up_norm, made)
            if not bottom:
                d.batch(down_norm, outer[level + 1])
    s = d.state

    def run(level: int, x: Tensor) -> Tensor:
        down, down_norm, up, up_norm = layers(level)
        top, bottom = level == 0, level == levels - 1
        y = run_conv(s, down, x if top else functional.leaky_relu(x, 0.2), stride=2, padding=1)
        if not top and not bottom:
            y = run_norm(s, down_norm, y)
        if not bottom:
            y = torch.cat([y, run(level + 1, y)], 1)
        y = run_up(s, up, torch.relu(y), stride=2, padding=1)
        return torch.tanh(y) if top else run_norm(s, up_norm, y)

    return Sample(s, tanh_picture(lambda x: run(0, x)))


def transformer_net(features: int = 4, blocks: int = 2) -> Sample:
    d = Draw()
    sizes = [
        ("conv1", features, 3, 9),
        ("conv2", features * 2, features, 3),
        ("conv3", features * 4, features * 2, 3),
    ]
    sizes += [("deconv1", features * 2, features * 4, 3), ("deconv2", features, features * 2, 3)]
    sizes += [("deconv3", 3, features, 9)]
    for name, outer, inner, side in sizes:
        d.conv(f"{name}.conv2d", outer, inner, side)
    d.state["deconv3.conv2d.weight"] *= 60
    d.state["deconv3.conv2d.bias"] += 128
    for number, width in enumerate((features, features * 2, features * 4, features * 2, features), 1):
        d.affine(f"in{number}", width)
        # Statistics that PyTorch before 0.4 kept and nothing reads.
        d.state[f"in{number}.running_mean"] = torch.full((width,), 9.0)
        d.state[f"in{number}.running_var"] = torch.full((width,), 9.0)
    for block in range(1, blocks + 1):
        for part in (1, 2):
            d.conv(f"res{block}.conv{part}.conv2d", features * 4, features * 4, 3)
            d.affine(f"res{block}.in{part}", features * 4)
    s = d.state

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        side = s[f"{name}.conv2d.weight"].shape[-1]
        return run_conv(s, f"{name}.conv2d", mirror(x, side // 2), stride=stride)

    def norm(name: str, x: Tensor) -> Tensor:
        return functional.instance_norm(x, weight=s[f"{name}.weight"], bias=s[f"{name}.bias"])

    def double(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def forward(x: Tensor) -> Tensor:
        y = torch.relu(norm("in1", conv("conv1", x * 255)))
        y = torch.relu(norm("in2", conv("conv2", y, 2)))
        y = torch.relu(norm("in3", conv("conv3", y, 2)))
        for block in range(1, blocks + 1):
            z = torch.relu(norm(f"res{block}.in1", conv(f"res{block}.conv1", y)))
            y = y + norm(f"res{block}.in2", conv(f"res{block}.conv2", z))
        y = torch.relu(norm("in4", conv("deconv1", double(y))))
        y = torch.relu(norm("in5", conv("deconv2", double(y))))
        return (conv("deconv3", y) / 255).clamp(0, 1)

    return Sample(s, forward)


def anime(features: int = 4, blocks: int = 2) -> Sample:
    d = Draw()
    a, b, c, e = features, features * 2, features * 4, features * 8

    def add(name: str, inner: int, outer: int, side: int = 3, *, groups: int = 1, bias: bool = False) -> None:
        d.conv(f"{name}.1", outer, inner // groups, side, bias=bias)
        d.affine(f"{name}.2", outer)

    plain = [("block_a.0", 3, a, 7), ("block_a.1", a, b, 3), ("block_a.2", b, b, 3)]
    plain += [("block_b.0", b, c, 3), ("block_b.1", c, c, 3), ("block_c.0", c, c, 3)]
    plain += [(f"block_c.{blocks + 1}", e, c, 3), ("block_d.0", c, c, 3), ("block_d.1", c, c, 3)]
    plain += [("block_e.0", c, b, 3), ("block_e.1", b, b, 3), ("block_e.2", b, a, 7)]
    for name, inner, outer, side in plain:
        add(name, inner, outer, side)
    for block in range(1, blocks + 1):
        inner = c if block == 1 else e
        add(f"block_c.{block}.layers.0", inner, inner * 2, 1)
        add(f"block_c.{block}.layers.1", inner * 2, inner * 2, groups=inner * 2, bias=True)
        d.conv(f"block_c.{block}.layers.2", e, inner * 2, 1, bias=False)
        d.affine(f"block_c.{block}.layers.3", e)
    d.conv("out_layer.0", 3, a, 1, bias=False)
    s = d.state

    def norm(name: str, x: Tensor) -> Tensor:
        return functional.group_norm(x, 1, s[f"{name}.weight"], s[f"{name}.bias"])

    def layer(name: str, x: Tensor, *, stride: int = 1, groups: int = 1) -> Tensor:
        side = s[f"{name}.1.weight"].shape[-1]
        x = mirror(x, (0, 1, 0, 1)) if stride == 2 else mirror(x, side // 2) if side > 1 else x
        y = run_conv(s, f"{name}.1", x, stride=stride, groups=groups)
        return functional.leaky_relu(norm(f"{name}.2", y), 0.2)

    def inverted(name: str, x: Tensor) -> Tensor:
        wide = layer(f"{name}.layers.0", x)
        wide = layer(f"{name}.layers.1", wide, groups=wide.shape[1])
        y = norm(f"{name}.layers.3", run_conv(s, f"{name}.layers.2", wide))
        return x + y if x.shape == y.shape else y

    def forward(x: Tensor) -> Tensor:
        half = layer("block_a.2", layer("block_a.1", layer("block_a.0", x), stride=2))
        y = layer("block_c.0", layer("block_b.1", layer("block_b.0", half, stride=2)))
        for block in range(1, blocks + 1):
            y = inverted(f"block_c.{block}", y)
        y = layer(f"block_c.{blocks + 1}", y)
        y = functional.interpolate(y, half.shape[-2:], mode="bilinear", align_corners=True)
        y = layer("block_d.1", layer("block_d.0", y))
        y = functional.interpolate(y, x.shape[-2:], mode="bilinear", align_corners=True)
        for index in range(3):
            y = layer(f"block_e.{index}", y)
        return torch.tanh(run_conv(s, "out_layer.0", y))

    return Sample(s, tanh_picture(forward))


# --- Noise to image.


def dcgan(noise: int = 12, widths: Sequence[int] = (16, 8), channels: int = 3) -> Sample:
    """Its forward pass takes noise (n, noise, 1, 1)."""
    d = Draw()
    sizes = [noise, *widths, channels]
    for level, (inner, outer) in enumerate(itertools.pairwise(sizes)):
        d.up(f"main.{3 * level}", inner, outer, 4, bias=False)
        if level < len(widths):
            d.batch(f"main.{3 * level + 1}", outer)
    s = d.state

    def forward(z: Tensor) -> Tensor:
        y = z
        for level in range(len(widths)):
            y = run_up(s, f"main.{3 * level}", y, **({"stride": 2, "padding": 1} if level else {}))
            y = torch.relu(run_norm(s, f"main.{3 * level + 1}", y))
        return (torch.tanh(run_up(s, f"main.{3 * len(widths)}", y, stride=2, padding=1)) + 1) / 2

    return Sample(s, forward)
