"""Catalog of generators: recognize one by tensor names and shapes, and build it from its plan."""

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
    """A recognized generator: its plan, its tensors by the names of its module, and their reading."""

    plan: NetworkPlan
    tensors: dict[str, Tensor]
    reading: CheckpointReading

    def check_copy(self) -> None:
        """Raise Refused if an averaged copy of the weights was ignored, or may be incomplete."""
        self.reading.refuse_ignored()
        # Norms without statistics are instance norms, or batch norms with only their parameters averaged.
        if not self.reading.is_whole and self.plan.settings.get("norm") == "affine":
            text = (
                f"Its averaged weights, “{self.reading.shown_name}”, have no batch norm statistics, and no "
                "other copy has them. Save the whole state dict of the averaged model. For a network with "
                "instance norms, save only its state dict."
            )
            raise Refused(text, code="tensors")


class ImageNetwork(nn.Module):
    """Wraps a network so that its input and output images have values from 0 to 1."""

    def __init__(self, net: nn.Module, values: str, *, reads_noise: bool) -> None:
        super().__init__()
        self.net = net
        self.values = values
        self.reads_noise = reads_noise

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x if self.reads_noise else self._to_own_range(x))
        return self._to_unit_range(y).clamp(0.0, 1.0)

    def _to_own_range(self, x: Tensor) -> Tensor:
        if self.values == "tanh":
            return x * 2.0 - 1.0
        return x * 255.0 if self.values == "bytes" else x

    def _to_unit_range(self, y: Tensor) -> Tensor:
        if self.values == "tanh":
            return (y + 1.0) / 2.0
        return y / 255.0 if self.values == "bytes" else y


def find(tensors: Mapping[str, Any]) -> RecognizedGenerator | None:
    """Return the generator with these tensor names and shapes, or None."""
    for reading in list_readings(tensors):
        shapes = {name: tuple(tensor.shape) for name, tensor in reading.tensors.items()}
        # Empty tensors belong to no generator.
        is_empty = any(0 in shape for shape in shapes.values())
        for read in () if is_empty else _READERS:
            plan = read(shapes)
            if plan is not None:
                own = {ours: reading.tensors[theirs] for ours, theirs in plan.names.items()}
                return RecognizedGenerator(plan, own, reading)
    return None


def outline(architecture: Mapping[str, Any]) -> ImageNetwork:
    """Build a generator from `NetworkPlan.as_json` on the meta device, without allocating memory."""
    make = _NETS[architecture["net"]]
    with torch.device("meta"):
        net = make(**architecture["settings"])
    network = ImageNetwork(net, architecture["values"], reads_noise=architecture["net"] == "dcgan")
    network.eval()
    return network


def build(architecture: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ImageNetwork:
    """Build a generator and load its tensors, as float32.

    It allocates no memory beyond the tensors. Raises Refused if they are not exactly those of the network.
    """
    network = outline(architecture)
    fill(network.net, tensors)
    return network


def fill(net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors into a network on the meta device. Raises Refused if they do not match."""
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    # PyTorch before 0.4.1 did not save the count of batches, and inference does not use it.
    uncounted = {name: torch.tensor(0) for name in wanted if name.endswith(".num_batches_tracked")}
    tensors = {**uncounted, **tensors}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    _refuse("It lacks tensors of this network", wanted.keys() - found.keys())
    _refuse("It has tensors that this network does not have", found.keys() - wanted.keys())
    _refuse("Tensors have the wrong shape", {n for n in wanted if wanted[n] != found[n]})
    net.load_state_dict(
        {name: _to_float32(tensor) for name, tensor in tensors.items()}, strict=True, assign=True
    )
    net.requires_grad_(False)


def _to_float32(tensor: Tensor) -> Tensor:
    """Return a tensor as float32. Integer counters stay unchanged."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _refuse(sentence: str, names: set[str]) -> None:
    if names:
        shown = ", ".join(sorted(names)[:_SHOWN_NAMES])
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        raise Refused(f"{sentence}: {shown}{more}.", code="tensors")
