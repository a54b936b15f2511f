"""Networks in half precision, as GPUs like them: all but what places and sizes are computed from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def halve(network: Any) -> None:
    """Turn a torch module into half precision, in place.

    A head that tells places goes on in 32 bits behind its last convolutions: between 512 and 1024 pixels half
    precision knows only every second half pixel.
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
    """Return the last module of a detector, which turns features into rows."""
    from torch import nn

    layers = getattr(network, "model", None)
    return layers[-1] if isinstance(layers, nn.Sequential) else None


def _last_layers(head: Any) -> Iterator[Any]:
    """Yield the plain convolutions that end a head's branches. Those before are within blocks."""
    from torch import nn

    for branch in head.modules():
        if isinstance(branch, nn.Sequential | nn.ModuleList):
            yield from (layer for layer in branch if type(layer) is nn.Conv2d)


def _anchors(network: Any) -> Iterator[tuple[tuple[Any, str], Any]]:
    """Yield the sizes that an older head's boxes are multiples of."""
    head = _head(network)
    if head is not None and "anchors" in dict(head.named_buffers()):
        yield (head, "anchors"), head.anchors


def _widen(_layer: Any, _inputs: Any, output: Any) -> Any:
    return output.float()
