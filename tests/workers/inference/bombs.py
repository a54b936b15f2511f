"""Hostile ONNX graphs: harmless on most images, harmful on bright ones. All are small and pass conversion.

Each one maps an image of `SIDE` pixels to an image of the same size. The harmful sizes depend on the image,
so that no check of the graph finds them. White images are harmless, because conversions try black and white
ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SIDE = 32
# Mean brightness of harmful images, from 0 to 1.
BRIGHT = 240 / 255
# Rows of the multiplied matrices. Each product takes seconds.
_ROWS = 4096


def never_ending(products: int = 200) -> bytes:
    """Return a graph that multiplies large matrices for very long on a bright image."""
    from onnx import helper

    nodes = [
        *_sized("rows", _ROWS),
        helper.make_node("Concat", ["rows", "rows"], ["square"], axis=0),
        helper.make_node("ReduceMean", ["image"], ["one"], axes=[0, 1], keepdims=0),
        helper.make_node("ReduceMean", ["one"], ["only"], keepdims=1),
        helper.make_node("Expand", ["only", "square"], ["product0"]),
    ]
    nodes += _products(products, "harmful")
    return _on_bright(nodes)


def memory_hog(megabytes: int = 2900, *, always: bool = False) -> bytes:
    """Return a graph with a tensor of this size on bright images, or on all images if `always`."""
    nodes = _expanding("bright", megabytes, "harmful")
    return _on_bright(nodes, otherwise=_expanding("dark", megabytes, "harmless") if always else ())


def two_hogs(megabytes: int, otherwise: int) -> bytes:
    """Return a graph with a tensor of `megabytes` on bright images, and of `otherwise` on others."""
    return _on_bright(
        _expanding("bright", megabytes, "harmful"), otherwise=_expanding("dark", otherwise, "harmless")
    )


def harmless() -> bytes:
    """Return a graph that returns each image unchanged."""
    from onnx import helper

    return _on_bright([helper.make_node("Identity", ["image"], ["harmful"])])


def slow_to_convert(products: int = 200) -> bytes:
    """Return a graph that takes very long on every image, so that its conversion does too."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["only"], keepdims=1),
        helper.make_node("Reshape", ["only", "flat"], ["one"]),
        helper.make_node("Expand", ["one", "square"], ["product0"]),
    ]
    nodes += _products(products, "made")
    return _model(nodes, [_numbers("flat", [1, 1]), _numbers("square", [_ROWS, _ROWS])])


def _products(number: int, result: str) -> list[Any]:
    """Return nodes that square the matrix `product0` `number` times, and darken the image."""
    from onnx import helper

    nodes = []
    for at in range(number):
        nodes += [
            helper.make_node("MatMul", [f"product{at}", f"product{at}"], [f"raw{at}"]),
            helper.make_node("Clip", [f"raw{at}", "low", "high"], [f"product{at + 1}"]),
        ]
    return [
        *nodes,
        helper.make_node("ReduceMean", [f"product{number}"], ["mean_of_all"], keepdims=0),
        helper.make_node("Mul", ["image", "mean_of_all"], [result]),
    ]


def _expanding(name: str, megabytes: int, result: str) -> list[Any]:
    """Return nodes that enlarge the image to `megabytes` and reduce it again."""
    from onnx import helper

    return [
        *_sized(f"{name}_count", megabytes * 2**20 // (4 * 3 * SIDE * SIDE)),
        helper.make_node("Concat", [f"{name}_count", "image_shape"], [f"{name}_shape"], axis=0),
        helper.make_node("Unsqueeze", ["image", "first"], [f"{name}_lifted"]),
        helper.make_node("Expand", [f"{name}_lifted", f"{name}_shape"], [f"{name}_huge"]),
        helper.make_node("ReduceMean", [f"{name}_huge"], [result], axes=[0], keepdims=0),
    ]


def _sized(name: str, size: int) -> list[Any]:
    """Return nodes that compute a size of one dimension, in a way that no check can predict."""
    from onnx import TensorProto, helper

    return [
        helper.make_node("Mul", ["mean", "zero"], [f"{name}_nothing"]),
        helper.make_node("Constant", [], [f"{name}_wanted"], value_float=float(size)),
        helper.make_node("Add", [f"{name}_nothing", f"{name}_wanted"], [f"{name}_sum"]),
        helper.make_node("Cast", [f"{name}_sum"], [f"{name}_whole"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", [f"{name}_whole", "first"], [name]),
    ]


def _on_bright(harmful: Sequence[Any], *, otherwise: Sequence[Any] = ()) -> bytes:
    """Return a graph that runs the nodes, whose result is `harmful`, if its image is bright.

    Args:
        otherwise: nodes for other images, whose result is `harmless`; by default these pass through.
    """
    from onnx import helper

    passing = [helper.make_node("Identity", ["image"], ["harmless"])]
    then = helper.make_graph(list(harmful), "then", [], [_image("harmful")])
    other = helper.make_graph(list(otherwise) or passing, "other", [], [_image("harmless")])
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "least"], ["is_above"]),
        helper.make_node("Less", ["mean", "most"], ["is_below"]),
        helper.make_node("And", ["is_above", "is_below"], ["is_bright"]),
        helper.make_node("If", ["is_bright"], ["made"], then_branch=then, else_branch=other),
    ]
    return _model(nodes)


def _model(nodes: Sequence[Any], constants: Sequence[Any] = ()) -> bytes:
    from onnx import helper

    shared = [
        _value("least", BRIGHT - 0.03),
        _value("most", BRIGHT + 0.03),
        _value("low", 0.0),
        _value("high", 1.0),
        _value("zero", 0.0),
        _numbers("first", [0]),
        _numbers("image_shape", [1, 3, SIDE, SIDE]),
    ]
    graph = helper.make_graph(
        list(nodes), "bomb", [_image("image")], [_image("made")], initializer=[*shared, *constants]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def _image(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, SIDE, SIDE])


def _value(name: str, value: float) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor(name, TensorProto.FLOAT, [], [value])


def _numbers(name: str, values: Sequence[int]) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
