"""Normalization layers of generators, recognized by their tensor names."""

from __future__ import annotations

from typing import Literal

from torch import nn

from workers.nets.plan import Shapes

Norm = Literal["batch", "instance", "affine"]
# Instance norms of PyTorch before 0.4 saved statistics that are never used.
LEFTOVERS = (".running_mean", ".running_var", ".num_batches_tracked")


def read_norm(shapes: Shapes, name: str) -> Norm:
    """Return the kind of the norm `name`: with statistics, without tensors, or with weights only."""
    if f"{name}.weight" not in shapes:
        return "instance"
    return "batch" if f"{name}.running_mean" in shapes else "affine"


def make_norm(norm: str, features: int) -> nn.Module:
    """Return a norm for `features` channels."""
    if norm == "batch":
        return nn.BatchNorm2d(features)
    return nn.InstanceNorm2d(features, affine=norm == "affine")
