"""Count the floating-point operations (FLOPs) of an ONNX graph, from its tensor shapes.

Only the nodes that compute shapes are run. Weights are not read.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.bundle import MOST_FLOPS
from workers.families.onnx.graph import SILENT, Graph, Size
from workers.onnx_runtime import make_options

# Operators with nearly all FLOPs, and the index of their input with the weights or the second matrix.
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "DeformConv": 1}
_PRODUCTS = {"Gemm": 1, "MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3}
_TRANSPOSED = "ConvTranspose"
_COUNTED = frozenset((*_CONVOLUTIONS, *_PRODUCTS, _TRANSPOSED))
# Expensive operators that are not counted: with them the result is unknown.
_UNCOUNTED = frozenset(("Attention", "Einsum"))
_DOMAINS = ("", "ai.onnx")
# Largest tensor that may be part of a shape computation. Larger ones are weights.
_MOST_NUMBERS = 1024
_MOST_SETTLED_BYTES = 64 * 1024**2

Shape = tuple[int, ...]


class _UnknownError(Exception):
    """The number of FLOPs cannot be determined."""


def count_flops(graph: Graph, size: Size) -> int | None:
    """Return the FLOPs for one image of a size (width, height), two for each multiplication.

    None if a shape is only known at run time, or depends on the image.
    """
    try:
        settled = _settle_shapes(_lighten(graph, size))
        shapes = _shapes_of(settled.graph)
        total = sum(_count(node, shapes) for node in _list_nodes(settled.graph))
    except Exception:  # noqa: BLE001 - libraries may raise anything for an untrusted graph, which has already run
        return None
    return total if 0 < total <= MOST_FLOPS else None


def _lighten(graph: Graph, size: Size) -> Any:
    """Return the graph for one input size, with weights as inputs and without declared output shapes."""
    import onnx

    source, light = graph.model.graph, onnx.ModelProto()
    # Since IR version 4, constants need not be inputs.
    light.ir_version = max(4, graph.model.ir_version)
    light.opset_import.extend(graph.model.opset_import)
    light.graph.name = "light"
    kind = next(one.type.tensor_type.elem_type for one in source.input if one.name == graph.name)
    light.graph.input.append(_make_input(graph.name, kind, (1, graph.channels, size[1], size[0])))
    light.graph.initializer.extend(tensor for tensor in source.initializer if _is_small(tensor))
    light.graph.node.extend(node for node in source.node if _weights_of(node) is None)
    weights = [(tensor.name, tensor) for tensor in source.initializer if not _is_small(tensor)]
    constants = [(node.output[0], _weights_of(node)) for node in source.node]
    for name, tensor in (*weights, *constants):
        if tensor is not None:
            light.graph.input.append(_make_input(name, tensor.data_type, tensor.dims))
    light.graph.output.extend(source.output)
    for output in light.graph.output:
        output.type.tensor_type.ClearField("shape")
    return light


def _make_input(name: str, kind: int, shape: Sequence[int]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, kind, list(shape))


def _is_small(tensor: Any) -> bool:
    numbers: int = math.prod(tensor.dims)
    return numbers <= _MOST_NUMBERS


def _weights_of(node: Any) -> Any:
    """Return the large tensor of a Constant node, or None."""
    if node.op_type != "Constant":
        return None
    given = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
    return None if given is None or _is_small(given) else given


def _settle_shapes(light: Any) -> Any:
    """Fold constants and shape computations with ONNX Runtime, then infer all shapes."""
    import onnx
    import onnxruntime

    options = make_options(severity=SILENT)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settled.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(light.SerializeToString(), options, providers=["CPUExecutionProvider"])
        if path.stat().st_size > _MOST_SETTLED_BYTES:
            raise _UnknownError
        settled = onnx.load_model_from_string(path.read_bytes())
    return onnx.shape_inference.infer_shapes(settled)


def _shapes_of(graph: Any) -> Mapping[str, Shape]:
    """Return the fully known shapes."""
    known: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(side.HasField("dim_value") for side in kind.shape.dim):
            known[value.name] = tuple(side.dim_value for side in kind.shape.dim)
    return known


def _list_nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph. Raises _UnknownError for expensive nodes inside control flow."""
    for node in graph.node:
        inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        if any(_does_work(one) for branch in inner for one in _walk(branch)):
            raise _UnknownError
        yield node


def _walk(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _walk(attribute.g)


def _does_work(node: Any) -> bool:
    return node.op_type in _COUNTED | _UNCOUNTED or node.domain not in _DOMAINS


def _count(node: Any, shapes: Mapping[str, Shape]) -> int:
    """Return the operations of one node. Raises _UnknownError."""
    if not _does_work(node):
        return 0
    if node.op_type not in _COUNTED or node.domain not in _DOMAINS:
        raise _UnknownError
    at = {**_CONVOLUTIONS, **_PRODUCTS}.get(node.op_type, 1)
    names = (node.input[0], node.input[at], node.output[0])
    if any(name not in shapes for name in names):
        raise _UnknownError
    first, second, output = (shapes[name] for name in names)
    if node.op_type == _TRANSPOSED:
        return 2 * math.prod(first) * math.prod(second[1:])
    if node.op_type in _CONVOLUTIONS:
        return 2 * math.prod(output) * math.prod(second[1:])
    # A Gemm may transpose its inputs. The first always has the rows of the output.
    inner = math.prod(first) // output[0] if node.op_type == "Gemm" else first[-1]
    return 2 * math.prod(output) * inner
