"""The normalisations of generators, told by the names of their tensors."""

from __future__ import annotations

from typing import Literal

from torch import nn

from workers.nets.plan import Shapes

Norm = Literal["batch", "instance", "affine"]
# Instance norms of PyTorch before 0.4 kept statistics that nothing reads.
LEFTOVERS = (".running_mean", ".running_var", ".num_batches_tracked")


def read_norm(shapes: Shapes, name: str) -> Norm:
    """Tell the norm called `name`: with statistics of its own, without tensors, or with weights alone."""
    if f"{name}.weight" not in shapes:
        return "instance"
    return "batch" if f"{name}.running_mean" in shapes else "affine"


def make_norm(norm: str, features: int) -> nn.Module:
    """Return a norm over pictures of `features` channels."""
    if norm == "batch":
        return nn.BatchNorm2d(features)
    return nn.InstanceNorm2d(features, affine=norm == "affine")
