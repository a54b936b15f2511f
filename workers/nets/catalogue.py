"""All generators: told from an upload's names and shapes, and built from what their plan says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workers.checkpoints.upload import Refused
from workers.nets import (
    anime_generator,
    dcgan,
    resnet_generator,
    rrdb,
    srvgg,
    transformer_net,
    unet_generator,
)
from workers.nets.plan import NetworkPlan
from workers.nets.wrappers import CheckpointReading, list_readings

_READERS = (
    rrdb.read,
    srvgg.read,
    resnet_generator.read,
    unet_generator.read,
    transformer_net.read,
    anime_generator.read,
    dcgan.read,
)
_NETS: Mapping[str, Callable[..., nn.Module]] = {
    "rrdb": rrdb.RRDBNet,
    "srvgg": srvgg.SRVGGNetCompact,
    "resnet_generator": resnet_generator.ResnetGenerator,
    "unet_generator": unet_generator.UnetGenerator,
    "transformer_net": transformer_net.TransformerNet,
    "anime_generator": anime_generator.AnimeGenerator,
    "dcgan": dcgan.DCGAN,
}
_SHOWN_NAMES = 3


@dataclass(frozen=True)
class RecognizedGenerator:
    """A generator in an upload: its plan, its tensors under its own names, and how they were read."""

    plan: NetworkPlan
    tensors: dict[str, Tensor]
    reading: CheckpointReading

    def check_copy(self) -> None:
        """Raise Refused where an averaged copy of the weights was passed over, or may be incomplete."""
        self.reading.refuse_ignored()
        # Norms without statistics are instance norms, or batch norms of which only the parameters were
        # averaged.
        if not self.reading.is_whole and self.plan.settings.get("norm") == "affine":
            text = (
                f"Its averaged weights, “{self.reading.shown_name}”, have no statistics of batch norms, and "
                "no other copy has them. Save the averaged model’s whole state dict; of a network with "
                "instance norms, save the state dict itself, outside of any other."
            )
            raise Refused(text, code="tensors")


class Pictured(nn.Module):
    """A network that reads and writes pictures of 0 to 1, whatever its own values are."""

    def __init__(self, net: nn.Module, values: str, *, reads_noise: bool) -> None:
        super().__init__()
        self.net = net
        self.values = values
        self.reads_noise = reads_noise

    def forward(self, x: Tensor) -> Tensor:
        made = self.net(x if self.reads_noise else self._enter(x))
        return self._leave(made).clamp(0.0, 1.0)

    def _enter(self, x: Tensor) -> Tensor:
        if self.values == "tanh":
            return x * 2.0 - 1.0
        return x * 255.0 if self.values == "bytes" else x

    def _leave(self, y: Tensor) -> Tensor:
        if self.values == "tanh":
            return (y + 1.0) / 2.0
        return y / 255.0 if self.values == "bytes" else y


def find(tensors: Mapping[str, Any]) -> RecognizedGenerator | None:
    """Tell a generator by the names and shapes of its tensors; None where they are no generator's."""
    for reading in list_readings(tensors):
        shapes = {name: tuple(tensor.shape) for name, tensor in reading.tensors.items()}
        # Nothing is made of tensors without a number in them.
        is_empty = any(0 in shape for shape in shapes.values())
        for read in () if is_empty else _READERS:
            plan = read(shapes)
            if plan is not None:
                own = {ours: reading.tensors[theirs] for ours, theirs in plan.names.items()}
                return RecognizedGenerator(plan, own, reading)
    return None


def outline(architecture: Mapping[str, Any]) -> Pictured:
    """Build a generator of `NetworkPlan.as_json` on the meta device: layers and sizes, but no memory."""
    make = _NETS[architecture["net"]]
    with torch.device("meta"):
        net = make(**architecture["settings"])
    pictured = Pictured(net, architecture["values"], reads_noise=architecture["net"] == "dcgan")
    pictured.eval()
    return pictured


def build(architecture: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Pictured:
    """Build a generator and put its tensors in, as float32.

    Nothing is allocated but what the tensors have themselves. Raises Refused where they are not exactly those
    that the network needs.
    """
    pictured = outline(architecture)
    fill(pictured.net, tensors)
    return pictured


def fill(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors into a network that was built without memory. Raises Refused where they do not fit."""
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    # PyTorch before 0.4.1 did not count batches, and nothing here reads the count.
    uncounted = {name: torch.tensor(0) for name in wanted if name.endswith(".num_batches_tracked")}
    tensors = {**uncounted, **tensors}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    _refuse("It lacks tensors that this network has", wanted.keys() - given.keys())
    _refuse("It has tensors that this network does not know", given.keys() - wanted.keys())
    _refuse("Tensors have other sizes than they should", {n for n in wanted if wanted[n] != given[n]})
    net.load_state_dict(
        {name: _as_number(tensor) for name, tensor in tensors.items()}, strict=True, assign=True
    )
    net.requires_grad_(False)


def _as_number(tensor: Tensor) -> Tensor:
    """Float32, but for counters."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _refuse(sentence: str, names: set[str]) -> None:
    if names:
        shown = ", ".join(sorted(names)[:_SHOWN_NAMES])
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        raise Refused(f"{sentence}: {shown}{more}.", code="tensors")
