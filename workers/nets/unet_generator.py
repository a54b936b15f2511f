"""The U-Net generator of pix2pix: halvings down to one pixel, doublings, and skip connections.

Source: Isola et al. 2017, in the layout of pytorch-CycleGAN-and-pix2pix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workers.nets.norms import LEFTOVERS, make_norm, read_norm
from workers.nets.plan import MOST_FEATURES, NetworkPlan, Shapes, same_names

_MOST_HALVINGS = 10


class _Level(nn.Module):
    """One halving and doubling around the level below. `widths`: channels of input, level and all below."""

    def __init__(self, widths: Sequence[int], channels_out: int, norm: str, *, bias: bool, top: bool) -> None:
        super().__init__()
        self.top = top
        outer, inner, *below = widths
        down = nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=bias)
        below_out = inner * 2 if below else inner
        up = nn.ConvTranspose2d(below_out, channels_out, 4, stride=2, padding=1, bias=bias or top)
        deeper = _Level((inner, *below), inner, norm, bias=bias, top=False) if below else None
        layers: list[nn.Module | None]
        if top:
            layers = [down, deeper, nn.ReLU(), up, nn.Tanh()]
        else:
            down_norm = make_norm(norm, inner) if deeper else None
            layers = [
                nn.LeakyReLU(0.2),
                down,
                down_norm,
                deeper,
                nn.ReLU(),
                up,
                make_norm(norm, channels_out),
            ]
        self.model = nn.Sequential(*(layer for layer in layers if layer is not None))

    def forward(self, x: Tensor) -> Tensor:
        y = self.model(x)
        return y if self.top else torch.cat([x, y], 1)


class UnetGenerator(nn.Module):
    """Maps images (n, channels_in, h, w) of -1 to 1 to (n, channels_out, h, w). Sides: whole strides.

    `widths` are the channels of each level from the top.
    """

    def __init__(
        self, *, channels_in: int, channels_out: int, widths: Sequence[int], norm: str, bias: bool
    ) -> None:
        super().__init__()
        self.model = _Level((channels_in, *widths), channels_out, norm, bias=bias, top=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def read(shapes: Shapes) -> NetworkPlan | None:
    """Return the plan of this generator, recognized by its tensor names, or None."""
    first = shapes.get("model.model.0.weight", ())
    last = shapes.get("model.model.3.weight", ())
    widths = _read_widths(shapes)
    if len(first) != 4 or first[2:] != (4, 4) or len(last) != 4 or not widths or max(widths) > MOST_FEATURES:
        return None
    # The lowest level has no norm after its halving, only after its doubling.
    norm = read_norm(shapes, "model.model." + "1.model." + ("2" if len(widths) > 2 else "4"))
    return NetworkPlan(
        net="unet_generator",
        title=f"U-Net generator, {len(widths)} levels",
        settings={
            "channels_in": first[1],
            "channels_out": last[1],
            "widths": widths,
            "norm": norm,
            "bias": "model.model.0.bias" in shapes,
        },
        names=same_names(shapes, () if norm == "batch" else LEFTOVERS),
        channels=(first[1], last[1]),
        values="tanh",
        mode="whole",
        stride=2 ** len(widths),
    )


def _read_widths(shapes: Shapes) -> list[int]:
    """Return the channels of each level from the top. Empty: too few or too many levels."""
    widths: list[int] = []
    name = "model.model.0.weight"
    inside = "model.model.1.model."
    while len(shapes.get(name, ())) == 4 and len(widths) <= _MOST_HALVINGS:
        widths.append(shapes[name][0])
        name, inside = f"{inside}1.weight", f"{inside}3.model."
    return widths if 2 <= len(widths) <= _MOST_HALVINGS else []
