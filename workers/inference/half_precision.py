"""Half precision for GPUs: convert a network to 16 bits, except the layers that compute box coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def halve(network: Any) -> None:
    """Convert a torch module to half precision, in place.

    A detection head stays in 32 bits after its last convolutions: from 512 to 1024 pixels, half precision has
    a resolution of only half a pixel.
    """
    exact = {buffer: value.clone() for buffer, value in _anchors(network)}
    network.half()
    head = _head(network)
    if head is None:
        return
    for layer in _last_layers(head):
        layer.register_forward_hook(_widen)
    if hasattr(head, "dfl"):
        head.dfl.float()
    for (owner, name), value in exact.items():
        setattr(owner, name, value)


def _head(network: Any) -> Any | None:
    """Return a detector's head: its last module, which turns features into rows. None: no detector."""
    from torch import nn

    layers = getattr(network, "model", None)
    return layers[-1] if isinstance(layers, nn.Sequential) else None


def _last_layers(head: Any) -> Iterator[Any]:
    """Yield the plain convolutions at the ends of a head's branches. Earlier ones are inside blocks."""
    from torch import nn

    for branch in head.modules():
        if isinstance(branch, nn.Sequential | nn.ModuleList):
            yield from (layer for layer in branch if type(layer) is nn.Conv2d)


def _anchors(network: Any) -> Iterator[tuple[tuple[Any, str], Any]]:
    """Yield the anchor sizes of an anchor-based head."""
    head = _head(network)
    if head is not None and "anchors" in dict(head.named_buffers()):
        yield (head, "anchors"), head.anchors


def _widen(_layer: Any, _inputs: Any, output: Any) -> Any:
    return output.float()
