"""SRVGGNetCompact, the small network of Real-ESRGAN: plain convolutions, enlarged by the last of them.

Source: Wang et al. 2021, in BasicSR's layout.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from workers.nets.plan import MOST_BLOCKS, MOST_FEATURES, NetworkPlan, Shapes, same_names

_MOST_SCALE = 8


class SRVGGNetCompact(nn.Module):
    """Enlarges images (n, channels, h, w) of 0 to 1 by the factor `scale`."""

    def __init__(self, *, channels: int, features: int, convolutions: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(channels, features, 3, padding=1), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.PReLU(features)]
        layers.append(nn.Conv2d(features, channels * scale**2, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.pixel_shuffle(self.body(x), self.scale)
        return y + functional.interpolate(x, scale_factor=float(self.scale), mode="nearest")


def read(shapes: Shapes) -> NetworkPlan | None:
    """Return the plan of this network, recognized by its tensor names, or None."""
    first = shapes.get("body.0.weight", ())
    layers = 0
    while layers <= 2 * MOST_BLOCKS and f"body.{layers}.weight" in shapes:
        layers += 1
    last = shapes.get(f"body.{layers - 1}.weight", ())
    if len(first) != 4 or len(last) != 4 or layers % 2 == 0 or layers < 3 or first[0] > MOST_FEATURES:
        return None
    scale = math.isqrt(last[0] // first[1]) if first[1] else 0
    if layers > 2 * MOST_BLOCKS or not 1 <= scale <= _MOST_SCALE or scale**2 * first[1] != last[0]:
        return None
    convolutions = (layers - 3) // 2
    return NetworkPlan(
        net="srvgg",
        title=f"Real-ESRGAN compact ×{scale}, {convolutions + 2} convolutions",
        settings={
            "channels": first[1],
            "features": first[0],
            "convolutions": convolutions,
            "scale": scale,
        },
        names=same_names(shapes),
        channels=(first[1], first[1]),
        scale=scale,
    )
