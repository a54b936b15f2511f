"""RRDBNet, the network of ESRGAN and Real-ESRGAN: residual in residual dense blocks, then doublings.

Source: Wang et al. 2018 and 2021. Three layouts are supported: ESRGAN's first release, its later one, and
BasicSR's.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.nets.plan import MOST_BLOCKS, MOST_FEATURES, NetworkPlan, Shapes, count_blocks, same_names

_CONVS = 5
_MOST_DOUBLINGS = 3
# Names of ESRGAN's later layout, and their replacements in BasicSR's.
_RENAMED = (
    (re.compile(r"^RRDB_trunk\.(\d+)\.RDB(\d)\."), r"body.\1.rdb\2."),
    (re.compile(r"^trunk_conv\."), "conv_body."),
    (re.compile(r"^upconv(\d)\."), r"conv_up\1."),
    (re.compile(r"^HRconv\."), "conv_hr."),
)


class _Dense(nn.Module):
    """Dense block: five convolutions, each on the outputs of all previous ones."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for number in range(_CONVS):
            outer = features if number == _CONVS - 1 else growth
            self.add_module(f"conv{number + 1}", nn.Conv2d(features + number * growth, outer, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        read = [x]
        for number in range(1, _CONVS):
            y = self.get_submodule(f"conv{number}")(torch.cat(read, 1))
            read.append(functional.leaky_relu(y, 0.2))
        last = self.get_submodule(f"conv{_CONVS}")(torch.cat(read, 1))
        return x + last * 0.2


class _ResidualInResidualBlock(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = _Dense(features, growth)
        self.rdb2 = _Dense(features, growth)
        self.rdb3 = _Dense(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rdb3(self.rdb2(self.rdb1(x)))
        return x + y * 0.2


class RRDBNet(nn.Module):
    """Enlarges images (n, channels, h, w) of 0 to 1.

    It first unshuffles squares of side `fold` into channels, and later doubles the size `doublings` times.
    """

    def __init__(
        self,
        *,
        channels_in: int,
        channels_out: int,
        features: int,
        growth: int,
        blocks: int,
        doublings: int,
        fold: int,
    ) -> None:
        super().__init__()
        self.fold = fold
        self.conv_first = nn.Conv2d(channels_in * fold**2, features, 3, padding=1)
        self.body = nn.Sequential(*(_ResidualInResidualBlock(features, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, padding=1)
        self.ups = [f"conv_up{number}" for number in range(1, doublings + 1)]
        for name in self.ups:
            self.add_module(name, nn.Conv2d(features, features, 3, padding=1))
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.fold > 1:
            x = functional.pixel_unshuffle(x, self.fold)
        first = self.conv_first(x)
        y = first + self.conv_body(self.body(first))
        for name in self.ups:
            y = functional.interpolate(y, scale_factor=2.0, mode="nearest")
            y = functional.leaky_relu(self.get_submodule(name)(y), 0.2)
        return self.conv_last(functional.leaky_relu(self.conv_hr(y), 0.2))


def read(shapes: Shapes) -> NetworkPlan | None:
    """Return the plan of this network, recognized by its tensor names, or None."""
    names = _read_first_release(shapes) or _read_later(shapes)
    own = {ours: shapes[theirs] for ours, theirs in names.items()}
    first, last = own.get("conv_first.weight", ()), own.get("conv_last.weight", ())
    dense = own.get("body.0.rdb1.conv1.weight", ())
    if not len(first) == len(last) == len(dense) == 4 or max(first[0], dense[0]) > MOST_FEATURES:
        return None
    blocks = count_blocks(own, "body.{}.rdb1.conv1.weight")
    doublings = count_blocks(own, "conv_up{}.weight", 1)
    fold = {1: 1, 4: 2, 16: 4}.get(first[1] // last[0]) if first[1] % last[0] == 0 else 1
    if fold is None or blocks > MOST_BLOCKS or doublings > _MOST_DOUBLINGS or 2**doublings % fold:
        return None
    scale = 2**doublings // fold
    return NetworkPlan(
        net="rrdb",
        title=f"ESRGAN ×{scale}, {blocks} blocks",
        settings={
            "channels_in": first[1] // fold**2,
            "channels_out": last[0],
            "features": first[0],
            "growth": dense[0],
            "blocks": blocks,
            "doublings": doublings,
            "fold": fold,
        },
        names=names,
        channels=(first[1] // fold**2, last[0]),
        stride=fold,
        scale=scale,
    )


def _read_later(shapes: Shapes) -> dict[str, str]:
    """Return names in BasicSR's layout, or ESRGAN's later one, by the names of this module."""
    names = {}
    for theirs in same_names(shapes):
        ours = theirs
        for pattern, replacement in _RENAMED:
            ours = pattern.sub(replacement, ours)
        names[ours] = theirs
    return names


def _read_first_release(shapes: Shapes) -> dict[str, str]:
    """Return names in the first release's layout, by the names of this module.

    It numbers all layers in one sequence, including those without weights. After the blocks, each doubling is
    an upsampling, a convolution and an activation. Then follow a convolution, an activation, a convolution.
    """
    blocks = count_blocks(shapes, "model.1.sub.{}.RDB1.conv1.0.weight")
    ups = [3 * number for number in range(1, _MOST_DOUBLINGS + 1) if f"model.{3 * number}.weight" in shapes]
    after = 3 * len(ups)
    places = {"model.0": "conv_first", f"model.1.sub.{blocks}": "conv_body"}
    places |= {f"model.{number}": f"conv_up{index}" for index, number in enumerate(ups, 1)}
    places |= {f"model.{after + 2}": "conv_hr", f"model.{after + 4}": "conv_last"}
    names = {}
    for theirs in shapes if blocks else ():
        place, _, kind = theirs.rpartition(".")
        dense = re.fullmatch(r"model\.1\.sub\.(\d+)\.RDB(\d)\.(conv\d)\.0", place)
        ours = "body.{}.rdb{}.{}".format(*dense.groups()) if dense else places.get(place, place)
        names[f"{ours}.{kind}"] = theirs
    return names
