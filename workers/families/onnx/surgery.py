"""ONNX graph surgery: add nodes before the input and after the outputs. Existing nodes do not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Name prefix of added nodes and constants. They do not count as parameters of the model.
OWN = "ipau/"


@dataclass(frozen=True)
class NewNode:
    """A node to add: operator, attributes, and constants for its other inputs."""

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
    """Cast to another type, a number of onnx.TensorProto."""
    return NewNode("Cast", {"to": kind})


def reverse_channels() -> NewNode:
    """Reverse the channels: RGB to BGR."""
    return NewNode("Gather", {"axis": 1}, (np.array([2, 1, 0], np.int64),))


def lift(axes: Sequence[int], opset: int) -> NewNode:
    """Add dimensions of length 1. Since opset 13, the axes are an input."""
    if opset < 13:
        return NewNode("Unsqueeze", {"axes": list(axes)})
    return NewNode("Unsqueeze", constants=(np.array(axes, np.int64),))


def opset_of(model: Any) -> int:
    """Return the version of the standard operators that a model uses."""
    return max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def put_before(model: Any, given: Any, steps: Sequence[NewNode], *, order: Sequence[int], kind: int) -> None:
    """Add nodes before an input of a graph.

    Args:
        given: the input. It is changed.
        steps: at least one node.
        order: order of its dimensions in the new input.
        kind: element type of the new input.
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


def put_behind(model: Any, output: Any, steps: Sequence[NewNode]) -> None:
    """Add nodes after an output of a graph, and remove the declared shape of the output."""
    graph = model.graph
    names = _TensorNames(graph)
    new = names.make(output.name)
    graph.node.extend(_chain(graph, names, steps, output.name, new))
    output.name = new
    output.type.tensor_type.ClearField("shape")


def keep_outputs(model: Any, names: Sequence[str]) -> None:
    """Remove all other outputs from a graph. The remaining ones get this order."""
    found = {output.name: output for output in model.graph.output}
    kept = [type(found[name])() for name in names]
    for copy, name in zip(kept, names, strict=True):
        copy.CopyFrom(found[name])
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _per_channel(numbers: Sequence[float]) -> Any:
    return np.asarray(numbers, np.float32).reshape(1, -1, 1, 1)


def _chain(graph: Any, names: _TensorNames, steps: Sequence[NewNode], source: str, target: str) -> list[Any]:
    """Return nodes from one tensor to another, and add their constants to the graph."""
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
    """Generator of unused tensor names in a graph."""

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
