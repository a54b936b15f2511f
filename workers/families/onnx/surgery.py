"""Graph surgery: an uploaded graph's input and outputs brought into the forms that are run here.

Nodes go in front of the input and behind outputs; none of those between changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# What nodes and constants that are added here are called: no number of theirs counts as the model's.
OWN = "ipau/"


@dataclass(frozen=True)
class NewNode:
    """A node to add: its operator, attributes, and constants for its further inputs."""

    operator: str
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[Any, ...] = ()


def multiply(factors: Sequence[float]) -> NewNode:
    """Multiply images (1, channels, height, width) by one number, or one for each channel."""
    return NewNode("Mul", constants=(_per_channel(factors),))


def add(numbers: Sequence[float]) -> NewNode:
    """Add one number, or one for each channel."""
    return NewNode("Add", constants=(_per_channel(numbers),))


def transpose(*order: int) -> NewNode:
    return NewNode("Transpose", {"perm": list(order)})


def cast(kind: int) -> NewNode:
    """Turn numbers into another type, as onnx.TensorProto numbers it."""
    return NewNode("Cast", {"to": kind})


def reverse_channels() -> NewNode:
    """Turn red, green, blue into blue, green, red."""
    return NewNode("Gather", {"axis": 1}, (np.array([2, 1, 0], np.int64),))


def lift(axes: Sequence[int], opset: int) -> NewNode:
    """Add dimensions of length 1. From opset 13 on, the axes are an input."""
    if opset < 13:
        return NewNode("Unsqueeze", {"axes": list(axes)})
    return NewNode("Unsqueeze", constants=(np.array(axes, np.int64),))


def opset_of(model: Any) -> int:
    """Return the version of the standard operators that a model uses."""
    return max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def put_before(model: Any, given: Any, steps: Sequence[NewNode], *, order: Sequence[int], kind: int) -> None:
    """Have a graph take its input through these steps.

    Args:
        given: the input, which is changed.
        steps: at least one.
        order: which of its dimensions come first in the new input.
        kind: of the new input's numbers.
    """
    graph = model.graph
    names = _TensorNames(graph)
    new = names.make(given.name)
    nodes = _chain(graph, names, steps, new, given.name)
    given.name = new
    given.type.tensor_type.elem_type = kind
    _reorder(given, order)
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])


def put_behind(model: Any, told: Any, steps: Sequence[NewNode]) -> None:
    """Have a graph give an output through these steps. What it says of that one's shape is left out."""
    graph = model.graph
    names = _TensorNames(graph)
    new = names.make(told.name)
    graph.node.extend(_chain(graph, names, steps, told.name, new))
    told.name = new
    told.type.tensor_type.ClearField("shape")


def keep_outputs(model: Any, names: Sequence[str]) -> None:
    """Leave a graph these outputs alone, in this order."""
    found = {told.name: told for told in model.graph.output}
    kept = [type(found[name])() for name in names]
    for copy, name in zip(kept, names, strict=True):
        copy.CopyFrom(found[name])
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _per_channel(numbers: Sequence[float]) -> Any:
    return np.asarray(numbers, np.float32).reshape(1, -1, 1, 1)


def _chain(graph: Any, names: _TensorNames, steps: Sequence[NewNode], source: str, target: str) -> list[Any]:
    """Return nodes that lead from one tensor to another; their constants go into the graph."""
    from onnx import helper, numpy_helper

    nodes, at = [], source
    for position, step in enumerate(steps):
        constants = [names.make(f"{target}/{step.operator}") for _ in step.constants]
        graph.initializer.extend(
            numpy_helper.from_array(value, name)
            for value, name in zip(step.constants, constants, strict=True)
        )
        made = target if position == len(steps) - 1 else names.make(f"{target}/{position}")
        nodes.append(helper.make_node(step.operator, [at, *constants], [made], **step.attributes))
        at = made
    return nodes


class _TensorNames:
    """Makes names that no tensor of a graph has."""

    def __init__(self, graph: Any) -> None:
        named = (*graph.input, *graph.output, *graph.initializer)
        self._taken = {one.name for one in named}
        self._taken |= {name for node in graph.node for name in (*node.input, *node.output)}

    def make(self, like: str) -> str:
        base = OWN + like.removeprefix(OWN)
        tried = (base, *(f"{base}/{more}" for more in range(len(self._taken) + 1)))
        name = next(made for made in tried if made not in self._taken)
        self._taken.add(name)
        return name


def _reorder(value: Any, order: Sequence[int]) -> None:
    dimensions = value.type.tensor_type.shape.dim
    copies = [type(dimensions[axis])() for axis in order]
    for copy, axis in zip(copies, order, strict=True):
        copy.CopyFrom(dimensions[axis])
    del dimensions[:]
    dimensions.extend(copies)
