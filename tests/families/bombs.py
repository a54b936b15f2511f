"""Graphs of ONNX that behave on most images and do harm on white ones: they are all small and valid.

Each takes an image of `SIDE` pixels and gives one of the same size, as models do that redraw images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SIDE = 32


def never_ending(turns: int = 2**40) -> bytes:
    """On a white image it multiplies matrices for very long; each other image passes through at once."""
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "state"], ["squared"]),
            helper.make_node("Clip", ["squared", "low", "high"], ["next"]),
            helper.make_node("Identity", ["going"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 3, SIDE, SIDE]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 3, SIDE, SIDE]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["turns", "true", "image"], ["looped"], body=body),
        helper.make_node("Clip", ["looped", "low", "high"], ["harmful"]),
    ]
    return _on_white(nodes, [_number("turns", turns), _flag("true")])


def memory_hog(megabytes: int = 2900) -> bytes:
    """On a white image one tensor takes so many megabytes."""
    shape = [_images(megabytes), 1, 3, SIDE, SIDE]
    constants = [_numbers("first", [0]), _numbers("white_shape", shape)]
    return _on_white(_expanding("white", "first", "harmful"), constants)


def two_hogs(megabytes: int, otherwise: int) -> bytes:
    """On white images one tensor takes so many megabytes; on others another takes `otherwise`."""
    white = _expanding("white", "first", "harmful")
    dark = _expanding("dark", "first", "harmless")
    constants = [_numbers("first", [0])]
    for name, size in (("white", megabytes), ("dark", otherwise)):
        constants.append(_numbers(f"{name}_shape", [_images(size), 1, 3, SIDE, SIDE]))
    return _on_white(white, constants, otherwise=dark)


def _expanding(name: str, axes: str, result: str) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("Unsqueeze", ["image", axes], [f"{name}_lifted"]),
        helper.make_node("Expand", [f"{name}_lifted", f"{name}_shape"], [f"{name}_huge"]),
        helper.make_node("ReduceMean", [f"{name}_huge"], [result], axes=[0], keepdims=0),
    ]


def _images(megabytes: int) -> int:
    """Return how many images take so many megabytes."""
    return megabytes * 2**20 // (4 * 3 * SIDE * SIDE)


def _on_white(harmful: Sequence[Any], constants: Sequence[Any], *, otherwise: Sequence[Any] = ()) -> bytes:
    """Return a graph that runs the nodes, whose result is `harmful`, if its image is white.

    Args:
        otherwise: nodes for other images, whose result is `harmless`; by default these pass through.
    """
    from onnx import TensorProto, helper

    shape = [1, 3, SIDE, SIDE]
    then = helper.make_graph(
        list(harmful), "then", [], [helper.make_tensor_value_info("harmful", TensorProto.FLOAT, shape)]
    )
    passing = [helper.make_node("Identity", ["image"], ["harmless"])]
    other = helper.make_graph(
        list(otherwise) or passing,
        "otherwise",
        [],
        [helper.make_tensor_value_info("harmless", TensorProto.FLOAT, shape)],
    )
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "limit"], ["is_white"]),
        helper.make_node("If", ["is_white"], ["made"], then_branch=then, else_branch=other),
    ]
    limits = [_value("limit", 0.9), _value("low", 0.0), _value("high", 1.0)]
    graph = helper.make_graph(
        nodes,
        "bomb",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("made", TensorProto.FLOAT, shape)],
        initializer=[*limits, *constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def _value(name: str, value: float) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor(name, TensorProto.FLOAT, [], [value])


def _number(name: str, value: int) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor(name, TensorProto.INT64, [], [value])


def _numbers(name: str, values: Sequence[int]) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def _flag(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor(name, TensorProto.BOOL, [], [True])
