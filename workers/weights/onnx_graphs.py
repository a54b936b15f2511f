"""An uploaded ONNX graph as it is run to see what it does: what it takes, of which size, what it gives."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.inference.runtime import explain, make_options, telling_of_memory
from workers.weights.exporting import compare
from workers.weights.onnx_config import Wishes
from workers.weights.upload import Refused, Upload

# Those that a graph for any size is tried with, until it takes one: some say so that take one alone.
_TRIED_SIDES = (320, 224, 256, 384, 512, 640, 299)
# Those that are left for one that needs too much memory at the first of them.
_SMALLER_SIDES = (256, 128, 64)
# How much larger the second one is: of most networks that halve pictures it is a multiple as well.
_LARGER = 128
_MOST_SIDE = 2048
_MOST_OUTPUT_NUMBERS = 2**27
# How far the outputs of the graph as it is and as the runtime rearranges it may lie apart.
TOLERANCE = 1e-3
# Where it computes with 16 bits, of which each number is rounded to one part in 2048.
HALF_TOLERANCE = 1e-2
# Of ONNX Runtime, whose exceptions say what is wrong with a graph.
SILENT = 4

Floats = NDArray[np.float32]
Output = NDArray[Any]
Size = tuple[int, int]


@dataclass(frozen=True)
class Graph:
    """An ONNX graph as it was read. `shape` is its input's, None where any size will do."""

    model: Any
    data: bytes
    name: str
    shape: tuple[int | None, ...]
    is_half: bool

    @property
    def channels(self) -> int:
        return self.shape[1] or 3

    @cached_property
    def tolerance(self) -> float:
        """How far its outputs may differ: more where most of its numbers have 16 bits."""
        from onnx import TensorProto

        counts = Counter[int]()
        for tensor in list_tensors(self.model).values():
            counts[tensor.data_type] += math.prod(tensor.dims)
        halves = counts[TensorProto.FLOAT16] + counts[TensorProto.BFLOAT16]
        return HALF_TOLERANCE if halves > counts[TensorProto.FLOAT] else TOLERANCE


def read_graph(upload: Upload) -> Graph:
    """Load the graph, and see what it takes. Raises Refused."""
    import onnx

    data = upload.path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise Refused("The file is damaged: its graph cannot be read.", code="damaged") from error
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in known]
    if len(inputs) != 1:
        text = f"It takes {len(inputs)} inputs. Only models that take one picture can be run."
        raise Refused(text, code="inputs")
    if _has_colours_last(_shape_of(inputs[0])):
        _put_colours_first(model, inputs[0])
        data = model.SerializeToString()
    given, shape = inputs[0].type.tensor_type, _shape_of(inputs[0])
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    if given.elem_type in floats and len(shape) == 3 and shape[0] in (1, 3):
        raise Refused(f"{_WANTED} Detectors of torchvision’s kind are not taken.", code="inputs")
    if given.elem_type not in floats or len(shape) != 4:
        raise Refused(_WANTED, code="inputs")
    if shape[0] not in (None, 1):
        text = f"It takes {shape[0]} pictures at once: export it with a batch of 1, or of any size."
        raise Refused(text, code="inputs")
    if shape[1] not in (None, 1, 3):
        raise Refused(_WANTED, code="inputs")
    if (shape[2] is None) != (shape[3] is None):
        raise Refused("One side of its input is fixed and the other is not.", code="inputs")
    return Graph(model, data, inputs[0].name, shape, given.elem_type == onnx.TensorProto.FLOAT16)


_WANTED = "Its input is not one picture of floats, (1, 3, height, width) or (1, 1, height, width)."


def _shape_of(given: Any) -> tuple[int | None, ...]:
    return tuple(side.dim_value if side.dim_value > 0 else None for side in given.type.tensor_type.shape.dim)


def _has_colours_last(shape: tuple[int | None, ...]) -> bool:
    """Whether it is (1, height, width, channels), as TensorFlow has pictures."""
    return len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)


def _put_colours_first(model: Any, given: Any) -> None:
    """Have a graph take and give pictures with colours first: they are turned before it and behind it.

    Args:
        given: its input, (n, height, width, channels).
    """
    from onnx import helper

    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    nodes = list(graph.node)
    turned = _name_anew(given.name, taken)
    before = helper.make_node("Transpose", [turned], [given.name], perm=[0, 2, 3, 1])
    given.name = turned
    _reorder(given, (0, 3, 1, 2))
    behind = []
    for told in graph.output:
        if len(told.type.tensor_type.shape.dim) == 4:
            turned = _name_anew(told.name, taken)
            behind.append(helper.make_node("Transpose", [told.name], [turned], perm=[0, 3, 1, 2]))
            told.name = turned
            _reorder(told, (0, 3, 1, 2))
    del graph.node[:]
    graph.node.extend([before, *nodes, *behind])


def _name_anew(name: str, taken: set[str]) -> str:
    new = next(
        made for made in (f"{name}_turned{'_' * more}" for more in itertools.count()) if made not in taken
    )
    taken.add(new)
    return new


def _reorder(value: Any, order: tuple[int, ...]) -> None:
    dimensions = value.type.tensor_type.shape.dim
    copies = [type(dimensions[axis])() for axis in order]
    for copy, axis in zip(copies, order, strict=True):
        copy.CopyFrom(dimensions[axis])
    del dimensions[:]
    dimensions.extend(copies)


def list_tensors(model: Any) -> dict[str, Any]:
    """Return the tensors that a graph holds, by their names."""
    constants = {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return {tensor.name: tensor for tensor in model.graph.initializer} | constants


def list_sizes(graph: Graph, wishes: Wishes) -> list[Size]:
    """Return the sizes (width, height) to try, the likeliest first. Raises Refused."""
    height, width = graph.shape[2:]
    if height is None or width is None:
        return [(side, side) for side in ((wishes.size,) if wishes.size else _TRIED_SIDES)]
    if max(height, width) > _MOST_SIDE:
        text = f"It takes pictures of {width} × {height} pixels; at most {_MOST_SIDE} a side are possible."
        raise Refused(text, code="inputs")
    return [(width, height)]


def try_sizes(graph: Graph, sizes: Sequence[Size]) -> tuple[Size, list[Output], float]:
    """Return the first size that the graph takes, and what came of it. Raises what the first one did.

    Where memory does not suffice for one of several, smaller ones are tried.
    """
    first: Refused | None = None
    left = list(sizes)
    while left:
        size = left.pop(0)
        try:
            return size, *try_graph(graph, draw_noise(graph, size, 2011))
        except MemoryError:
            if len(sizes) == 1:
                raise
            left = [(side, side) for side in _SMALLER_SIDES if side < max(size)]
            first = first or Refused(_NO_MEMORY, code="memory")
        except Refused as refused:
            if refused.code != "runtime":
                raise
            first = first or refused
    if first is None or first.code == "memory" or len(sizes) == 1:
        raise first or ValueError("There is no size to try.")
    text = f"{first.message} Where it takes pictures of one size only, say so in the config.json: “size”."
    raise Refused(text, code=first.code)


_NO_MEMORY = (
    "It needs more memory than a conversion may take, whatever size of pictures it is tried with. "
    "Where it takes a certain one, say so in the config.json, for example {“size”: 96}."
)


def settle(graph: Graph, size: Size) -> Graph:
    """Return the graph, its input of this size where it takes no other, whatever it says."""
    if graph.shape[2] is not None:
        return graph
    # A smaller one tells as much, where memory does not suffice for a larger one.
    for side in (max(size) + _LARGER, max(size) // 2):
        if side > _MOST_SIDE:
            return graph
        try:
            try_graph(graph, draw_noise(graph, (side, side), 2013))
        except MemoryError:
            continue
        except Refused as refused:
            return _pin(graph, size) if refused.code == "runtime" else graph
        return graph
    return graph


def _pin(graph: Graph, size: Size) -> Graph:
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    given = next(one for one in model.graph.input if one.name == graph.name)
    for axis, side in ((2, size[1]), (3, size[0])):
        given.type.tensor_type.shape.dim[axis].dim_value = side
    shape = (*graph.shape[:2], size[1], size[0])
    return replace(graph, model=model, data=model.SerializeToString(), shape=shape)


def draw_noise(graph: Graph, size: Size, seed: int) -> Floats:
    return np.random.default_rng(seed).random((1, graph.channels, size[1], size[0]), np.float32)


def try_graph(graph: Graph, sample: Floats) -> tuple[list[Output], float]:
    """Run the graph as it is and as the runtime rearranges it; return its outputs and how far they differ."""
    given = {graph.name: sample.astype(np.float16) if graph.is_half else sample}
    plain, optimised = (_run(graph, given, optimise) for optimise in (False, True))
    for output in plain:
        if output.dtype.kind not in "fiub" or output.size > _MOST_OUTPUT_NUMBERS:
            raise Refused("An output of it is too large, or has no numbers.", code="outputs")
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            raise Refused(
                "Its numbers are not finite: the model gives NaN or infinity where it is shown noise.",
                code="numbers",
            )
    floats = [(np.sort(a, axis=None), np.sort(b, axis=None)) for a, b in zip(optimised, plain, strict=True)]
    # Sorted: what a TopK chose from all but equal scores may come in another order.
    return plain, max((compare(a.astype(np.float32), b.astype(np.float32)) for a, b in floats), default=0.0)


def _run(graph: Graph, given: Mapping[str, Output], optimise: bool) -> list[Output]:
    import onnxruntime

    options = make_options(severity=SILENT)
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with telling_of_memory():
            session = onnxruntime.InferenceSession(graph.data, options, providers=["CPUExecutionProvider"])
            outputs: list[Output] = session.run(None, dict(given))
    except MemoryError:
        raise
    except Exception as error:
        raise Refused(f"ONNX Runtime cannot run it: {explain(error, 200)}", code="runtime") from error
    return outputs
