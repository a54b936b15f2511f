"""The generator of DCGAN: noise, enlarged by transposed convolutions.

Source: Radford et al. 2015, in the layout of PyTorch's own example.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from workers.nets.plan import MOST_FEATURES, NetworkPlan, Shapes, same_names

_MOST_LEVELS = 9


class DCGAN(nn.Module):
    """Maps noise (n, noise, 1, 1) to images (n, channels, s, s) of -1 to 1.

    s is 4, doubled for each of `widths`.
    """

    def __init__(self, *, noise: int, widths: Sequence[int], channels: int, bias: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner = noise
        for level, outer in enumerate(widths):
            stride, padding = (1, 0) if level == 0 else (2, 1)
            up = nn.ConvTranspose2d(inner, outer, 4, stride, padding, bias=bias)
            layers += [up, nn.BatchNorm2d(outer), nn.ReLU()]
            inner = outer
        layers += [nn.ConvTranspose2d(inner, channels, 4, 2, 1, bias=bias), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


def read(shapes: Shapes) -> NetworkPlan | None:
    """Return the plan of this generator, recognized by its tensor names, or None."""
    convolutions: list[tuple[int, ...]] = []
    while (name := f"main.{3 * len(convolutions)}.weight") in shapes and len(convolutions) <= _MOST_LEVELS:
        convolutions.append(shapes[name])
    known = 2 <= len(convolutions) <= _MOST_LEVELS and all(
        len(shape) == 4 and shape[2:] == (4, 4) and max(shape) <= MOST_FEATURES * 2 for shape in convolutions
    )
    if not known or "main.1.running_mean" not in shapes or convolutions[-1][1] not in (1, 3):
        return None
    side = 4 * 2 ** (len(convolutions) - 1)
    channels = convolutions[-1][1]
    return NetworkPlan(
        net="dcgan",
        title=f"DCGAN generator, {side} × {side}",
        settings={
            "noise": convolutions[0][0],
            "widths": [shape[1] for shape in convolutions[:-1]],
            "channels": channels,
            "bias": "main.0.bias" in shapes,
        },
        names=same_names(shapes),
        channels=(convolutions[0][0], channels),
        values="tanh",
        mode="noise",
        scale=side,
    )
