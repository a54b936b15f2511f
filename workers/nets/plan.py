"""Plan of a network before it is built: architecture, sizes, and processing of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workers.checkpoints.upload import Refused

Shapes = Mapping[str, tuple[int, ...]]
# Far above all known networks of these kinds.
MOST_BLOCKS = 64
MOST_FEATURES = 1024
MOST_NUMBER = 65_536
# Settings that determine the number of layers.
_COUNTS = ("blocks", "layers", "convolutions", "doublings", "halvings")


@dataclass(frozen=True)
class NetworkPlan:
    """How to build one network, and how to run it.

    Attributes:
        net: key in `workers.nets.catalogue`.
        title: name for people.
        settings: keyword arguments of its class: integers, strings and booleans only.
        names: tensor names in the upload, by tensor name of the module.
        values: range of input and output: "unit" 0 to 1, "tanh" -1 to 1, "bytes" 0 to 255.
        mode: "tiles" if the image can be processed in tiles; "whole" if each pixel depends on all others;
            "noise" if there is no input image.
        stride: sides must be multiples of it.
        scale: output width divided by input width.
    """

    net: str
    title: str
    settings: Mapping[str, Any]
    names: Mapping[str, str]
    channels: tuple[int, int]
    values: Literal["unit", "tanh", "bytes"] = "unit"
    mode: Literal["tiles", "whole", "noise"] = "tiles"
    stride: int = 1
    scale: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the argument of `workers.nets.catalogue.build`."""
        return {"net": self.net, "settings": dict(self.settings), "values": self.values}


def count_blocks(shapes: Shapes, pattern: str, start: int = 0) -> int:
    """Return the count of names of a pattern like "body.{}.weight", from `start` without a gap."""
    count = 0
    while count <= MOST_BLOCKS and pattern.format(start + count) in shapes:
        count += 1
    return count


def same_names(shapes: Shapes, unwanted: tuple[str, ...] = ()) -> dict[str, str]:
    """Return each name mapped to itself, except names that end in one of `unwanted`."""
    return {name: name for name in shapes if not name.endswith(unwanted or ("\0",))}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise Refused for settings that would make a network too large to build.

    Use it for settings from a sandbox process. `catalogue.fill` checks that the network matches its tensors.
    """
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        most = MOST_BLOCKS if name in _COUNTS else MOST_NUMBER
        if len(values) > MOST_BLOCKS or not all(_is_within(number, most) for number in values):
            raise Refused(f"The network’s {name} cannot be {str(value)[:40]}.", code="architecture")


def _is_within(value: Any, most: int) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and 0 <= value <= most)
