"""Small ONNX files of allowed operators that take minutes to convert, for different reasons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SIDE = 64
# Shape of the large tensors, far below the limit for tensors of constant shape.
LARGE = (1, 16, 1024, 1024)


def slow_graph(kind: str = "arithmetic") -> bytes:
    """Return an ONNX file of one of `KINDS`."""
    import onnx
    from onnx import TensorProto, helper

    nodes, constants = KINDS[kind]()
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [])
    graph = helper.make_graph(nodes, "slow", [images], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _arithmetic() -> tuple[list[Any], list[Any]]:
    """Repeated sines of 16 million values that depend on the input, so the runtime cannot fold them."""
    nodes = [_node("ReduceMax", ["images"], "one", keepdims=0), _node("Expand", ["one", "large"], "x0")]
    return _repeat(nodes, "Sin", 1500), [_shape("large", LARGE)]


def _constants() -> tuple[list[Any], list[Any]]:
    """Repeated cosines of a constant, which the runtime computes while it loads the graph."""
    nodes = [_node("ConstantOfShape", ["large"], "x0")]
    return _repeat(nodes, "Cos", 1500), [_shape("large", LARGE)]


def _products() -> tuple[list[Any], list[Any]]:
    nodes = [_node("ReduceMax", ["images"], "one", keepdims=0), _node("Expand", ["one", "square"], "x0")]
    nodes += [_node("MatMul", [f"x{n}", f"x{n}"], f"x{n + 1}") for n in range(200)]
    return _end(nodes, 200), [_shape("square", (4096, 4096))]


def _convolutions() -> tuple[list[Any], list[Any]]:
    """Convolutions with kernels of constant shape, so that the file stores no weights."""
    nodes = [
        _node("ConstantOfShape", ["kernel"], "weights"),
        _node("ReduceMax", ["images"], "one", keepdims=0),
        _node("Expand", ["one", "large"], "x0"),
    ]
    nodes += [
        _node("Conv", [f"x{n}", "weights"], f"x{n + 1}", pads=[15, 15, 15, 15], kernel_shape=[31, 31])
        for n in range(50)
    ]
    return _end(nodes, 50), [_shape("kernel", (16, 16, 31, 31)), _shape("large", LARGE)]


def _dilations() -> tuple[list[Any], list[Any]]:
    """Small images, repeatedly enlarged and reduced."""
    nodes = [_node("ConstantOfShape", ["kernel"], "weights"), _node("Identity", ["images"], "x0")]
    for n in range(200):
        nodes += [
            _node("ConvTranspose", [f"x{n}", "weights"], f"b{n}", dilations=[900, 900], kernel_shape=[3, 3]),
            _node("MaxPool", [f"b{n}"], f"x{n + 1}", kernel_shape=[300, 300], strides=[29, 29]),
        ]
    return _end(nodes, 200), [_shape("kernel", (3, 3, 3, 3))]


def _branches() -> tuple[list[Any], list[Any]]:
    """Nested branches with arithmetic in the innermost."""
    from onnx import TensorProto, helper

    def branch(depth: int) -> Any:
        name = f"y{depth}"
        if depth == 0:
            inner = _repeat([_node("Expand", ["one", "large"], "x0")], "Sin", 700)
            inner[-1].output[0] = name
        else:
            inner = [_branching(branch(depth - 1), name)]
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [])
        return helper.make_graph(inner, f"branch{depth}", [], [output])

    nodes = [
        _node("ReduceMax", ["images"], "one", keepdims=0),
        _node("Equal", ["one", "one"], "is_so"),
        _branching(branch(1), "output"),
    ]
    return nodes, [_shape("large", LARGE)]


def _branching(branch: Any, output: str) -> Any:
    return _node("If", ["is_so"], output, then_branch=branch, else_branch=branch)


def _repeat(nodes: list[Any], operator: str, number: int) -> list[Any]:
    return _end([*nodes, *(_node(operator, [f"x{n}"], f"x{n + 1}") for n in range(number))], number)


def _end(nodes: list[Any], number: int) -> list[Any]:
    return [*nodes, _node("ReduceMax", [f"x{number}"], "output", keepdims=0)]


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, [output], **attributes)


def _shape(name: str, shape: tuple[int, ...]) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array(shape, np.int64), name)


KINDS: dict[str, Callable[[], tuple[list[Any], list[Any]]]] = {
    "arithmetic": _arithmetic,
    "constants": _constants,
    "products": _products,
    "convolutions": _convolutions,
    "dilations": _dilations,
    "branches": _branches,
}
