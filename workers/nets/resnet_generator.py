"""The ResNet generator of CycleGAN and pix2pix: down, residual blocks, up.

Source: Johnson et al. 2016; Zhu et al. 2017, in the layout of pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

from torch import Tensor, nn

from workers.nets.norms import LEFTOVERS, make_norm, read_norm
from workers.nets.plan import MOST_BLOCKS, MOST_FEATURES, NetworkPlan, Shapes, count_blocks, same_names

_MOST_HALVINGS = 4


class _ResnetBlock(nn.Module):
    """Two convolutions with a shortcut."""

    def __init__(self, features: int, norm: str, *, bias: bool, dropout: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3, bias=bias),
            make_norm(norm, features),
            nn.ReLU(),
        ]
        if dropout:
            layers.append(nn.Dropout(0.5))
        layers += [
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3, bias=bias),
            make_norm(norm, features),
        ]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class ResnetGenerator(nn.Module):
    """Maps images (n, channels_in, h, w) of -1 to 1 to (n, channels_out, h, w). Sides: whole strides."""

    def __init__(
        self,
        *,
        channels_in: int,
        channels_out: int,
        features: int,
        halvings: int,
        blocks: int,
        norm: str,
        bias: bool,
        dropout: bool,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels_in, features, 7, bias=bias),
            make_norm(norm, features),
            nn.ReLU(),
        ]
        wide = features
        for _ in range(halvings):
            down = nn.Conv2d(wide, wide * 2, 3, stride=2, padding=1, bias=bias)
            layers += [down, make_norm(norm, wide * 2), nn.ReLU()]
            wide *= 2
        layers += [_ResnetBlock(wide, norm, bias=bias, dropout=dropout) for _ in range(blocks)]
        for _ in range(halvings):
            up = nn.ConvTranspose2d(wide, wide // 2, 3, stride=2, padding=1, output_padding=1, bias=bias)
            layers += [up, make_norm(norm, wide // 2), nn.ReLU()]
            wide //= 2
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(wide, channels_out, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def read(shapes: Shapes) -> NetworkPlan | None:
    """Return the plan of this generator, recognized by its tensor names, or None."""
    first = shapes.get("model.1.weight", ())
    start = _find_first_block(shapes)
    if len(first) != 4 or first[2:] != (7, 7) or start is None:
        return None
    # Dropout between the two convolutions moves the second one from index 5 to 6.
    dropout = len(shapes.get(f"model.{start}.conv_block.6.weight", ())) == 4
    blocks = count_blocks(shapes, "model.{}.conv_block.1.weight", start)
    halvings = (start - 4) // 3
    last = shapes.get(f"model.{start + blocks + 3 * halvings + 1}.weight", ())
    if blocks > MOST_BLOCKS or len(last) != 4 or first[0] > MOST_FEATURES:
        return None
    norm = read_norm(shapes, "model.2")
    return NetworkPlan(
        net="resnet_generator",
        title=f"ResNet generator, {blocks} blocks",
        settings={
            "channels_in": first[1],
            "channels_out": last[0],
            "features": first[0],
            "halvings": halvings,
            "blocks": blocks,
            "norm": norm,
            "bias": "model.1.bias" in shapes,
            "dropout": dropout,
        },
        names=same_names(shapes, () if norm == "batch" else LEFTOVERS),
        channels=(first[1], last[0]),
        values="tanh",
        mode="tiles" if norm == "batch" else "whole",
        stride=2**halvings,
    )


def _find_first_block(shapes: Shapes) -> int | None:
    starts = (4 + 3 * halvings for halvings in range(_MOST_HALVINGS + 1))
    return next((start for start in starts if f"model.{start}.conv_block.1.weight" in shapes), None)
