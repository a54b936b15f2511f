"""What is known of a network before it is built: which one, its sizes, and how pictures go through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workers.checkpoints.upload import Refused

Shapes = Mapping[str, tuple[int, ...]]
# Far more than any network of these kinds has.
MOST_BLOCKS = 64
MOST_FEATURES = 1024
MOST_NUMBER = 65_536
# Of these there is a layer, or more, for each one.
_COUNTS = ("blocks", "layers", "convolutions", "doublings", "halvings")


@dataclass(frozen=True)
class NetworkPlan:
    """How to build one network, and how to run it.

    Attributes:
        net: its key in `workers.nets.catalogue`.
        title: what a person calls it.
        settings: the keyword arguments that it is built from: whole numbers, texts and truths alone.
        names: the name in the upload of each tensor that belongs to it, by the name that it has here.
        values: what it reads and writes: "unit" 0 to 1, "tanh" -1 to 1, "bytes" 0 to 255.
        mode: "tiles" where a piece of a picture comes out as it would within the whole; "whole" where each
            pixel depends on all others; "noise" where it reads no picture.
        stride: sides must be multiples of it.
        scale: how many times as wide as its input its output is.
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
        """Return what `workers.nets.catalogue.build` needs."""
        return {"net": self.net, "settings": dict(self.settings), "values": self.values}


def count_blocks(shapes: Shapes, pattern: str, start: int = 0) -> int:
    """How many names there are of a pattern like "body.{}.weight", counted from `start` without a gap."""
    count = 0
    while count <= MOST_BLOCKS and pattern.format(start + count) in shapes:
        count += 1
    return count


def same_names(shapes: Shapes, unwanted: tuple[str, ...] = ()) -> dict[str, str]:
    """Names that are the same here as in the upload, but for those that end in one of `unwanted`."""
    return {name: name for name in shapes if not name.endswith(unwanted or ("\0",))}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise Refused for settings of a network by which building it would not end soon.

    For those that come from a process that had read an upload. Whether the network is that of the tensors,
    its builder looks.
    """
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        most = MOST_BLOCKS if name in _COUNTS else MOST_NUMBER
        if len(values) > MOST_BLOCKS or not all(_is_within(number, most) for number in values):
            raise Refused(f"The network’s {name} cannot be {str(value)[:40]}.", code="architecture")


def _is_within(value: Any, most: int) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and 0 <= value <= most)
