"""Load an uploaded ONNX graph, check its input, and run it on noise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.checkpoints.upload import Refused, WeightsUpload
from workers.configs.model_config import Wishes
from workers.export import compare
from workers.families.onnx import surgery
from workers.onnx_runtime import explain, make_options, raise_memory_errors

# Sizes to try for graphs with dynamic axes. Some of these only accept one size in fact.
_TRIED_SIDES = (320, 224, 256, 384, 512, 640, 299)
# Sizes to try if memory is not sufficient.
_SMALLER_SIDES = (256, 128, 64)
# Step to the second size. Most strides divide it.
_LARGER = 128
_MOST_SIDE = 2048
_MOST_OUTPUT_NUMBERS = 2**27
# Largest difference between the outputs with and without graph optimization.
TOLERANCE = 1e-3
# The same for float16, whose relative precision is 1/2048.
HALF_TOLERANCE = 1e-2
# Size of constants that graph surgery adds.
_MOST_OWN_NUMBERS = 4
# Log severity of ONNX Runtime. Its exceptions already contain the errors.
SILENT = 4

Floats = NDArray[np.float32]
Output = NDArray[Any]
Size = tuple[int, int]
_WANTED = "Its input is not one image of floats, (1, 3, height, width) or (1, 1, height, width)."
_NO_MEMORY = (
    "It needs more memory than a conversion can use, with all image sizes that were tried. "
    "If it needs a certain size, set it in the config.json, for example {“size”: 96}."
)
# Operators that change the shape or type of values, but not the values.
FORMING = frozenset({
    "Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip
_MOST_FORMS = 20


@dataclass(frozen=True)
class Graph:
    """An ONNX graph, maybe with an adapted input and outputs.

    `shape` is that of the input, None for dynamic axes. `is_last`: the uploaded graph takes channels last.
    `takes_bytes`: the uploaded graph takes uint8, so it normalizes pixels itself.
    """

    model: Any
    data: bytes
    name: str
    shape: tuple[int | None, ...]
    is_half: bool = False
    is_last: bool = False
    takes_bytes: bool = False

    @property
    def channels(self) -> int:
        return self.shape[1] or 3

    @cached_property
    def tolerance(self) -> float:
        """Largest difference of outputs. It is higher if most weights have 16 bits."""
        from onnx import TensorProto

        counts = Counter[int]()
        for tensor in list_tensors(self.model).values():
            counts[tensor.data_type] += math.prod(tensor.dims)
        halves = counts[TensorProto.FLOAT16] + counts[TensorProto.BFLOAT16]
        return HALF_TOLERANCE if halves > counts[TensorProto.FLOAT] else TOLERANCE


def read_graph(upload: WeightsUpload) -> Graph:
    """Load the graph, and adapt it to one float image with channels first. Raises Refused."""
    import onnx

    data = upload.path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise Refused("The file is damaged: its graph cannot be read.", code="damaged") from error
    inputs = find_inputs(model)
    if len(inputs) != 1:
        text = f"It has {len(inputs)} inputs. Export it with one image as its only input."
        raise Refused(text, code="inputs")
    given = inputs[0]
    kind, shape = given.type.tensor_type.elem_type, _shape_of(given)
    _check_kind(kind, shape)
    is_last = _has_channels_last(shape)
    steps = [*_steps_to(kind), *([surgery.transpose(0, 2, 3, 1)] if is_last else [])]
    if steps:
        order = (0, 3, 1, 2) if is_last else (0, 1, 2, 3)
        is_half = kind == onnx.TensorProto.FLOAT16
        new = onnx.TensorProto.FLOAT16 if is_half else onnx.TensorProto.FLOAT
        surgery.put_before(model, given, steps, order=order, kind=new)
        data = model.SerializeToString()
    shape = _shape_of(given)
    _check_shape(shape)
    return Graph(
        model,
        data,
        given.name,
        shape,
        is_half=given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16,
        is_last=is_last,
        takes_bytes=kind == onnx.TensorProto.UINT8,
    )


def find_inputs(model: Any) -> list[Any]:
    """Return the inputs without a default value. Older graphs list constants as inputs too."""
    known = {tensor.name for tensor in model.graph.initializer}
    return [given for given in model.graph.input if given.name not in known]


def list_tensors(model: Any) -> dict[str, Any]:
    """Return the constant tensors of a graph, by name."""
    constants = {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    found = {tensor.name: tensor for tensor in model.graph.initializer} | constants
    return {name: tensor for name, tensor in found.items() if not _is_ours(name, tensor)}


def edit(graph: Graph, change: Callable[[Any], None]) -> Graph:
    """Return a changed copy of the graph."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    change(model)
    return replace(graph, model=model, data=model.SerializeToString(), name=find_inputs(model)[0].name)


def list_sizes(graph: Graph, wishes: Wishes) -> list[Size]:
    """Return the sizes (width, height) to try, most likely first. Raises Refused."""
    height, width = graph.shape[2:]
    if height is None or width is None:
        return [(side, side) for side in ((wishes.size,) if wishes.size else _TRIED_SIDES)]
    if max(height, width) > _MOST_SIDE:
        text = f"Its input is {width} × {height} pixels. The limit is {_MOST_SIDE} pixels per side."
        raise Refused(text, code="inputs")
    return [(width, height)]


def try_sizes(graph: Graph, sizes: Sequence[Size]) -> tuple[Size, list[Output], float]:
    """Return the first size that works, and its outputs. Raises the error of the first size if none works.

    If memory is not sufficient, smaller sizes are tried.
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
    text = f"{first.message} If it only supports one image size, set it in the config.json as “size”."
    raise Refused(text, code=first.code)


def settle(graph: Graph, size: Size) -> Graph:
    """Return the graph. If it fails with other sizes, fix its input to this size."""
    if graph.shape[2] is not None:
        return graph
    # If memory is not sufficient for a larger size, try a smaller one.
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


def draw_noise(graph: Graph, size: Size, seed: int) -> Floats:
    return np.random.default_rng(seed).random((1, graph.channels, size[1], size[0]), np.float32)


def try_graph(graph: Graph, sample: Floats) -> tuple[list[Output], float]:
    """Run the graph with and without optimization; return the outputs and their largest difference."""
    plain, optimized = (_run(graph, sample, optimize) for optimize in (False, True))
    for output in plain:
        if output.dtype.kind not in "fiub" or output.size > _MOST_OUTPUT_NUMBERS:
            raise Refused("An output is too large, or is not numeric.", code="outputs")
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            raise Refused(
                "Its outputs are not finite: the model returns NaN or infinity for noise.",
                code="numbers",
            )
    return plain, max((_differ(a, b) for a, b in zip(optimized, plain, strict=True)), default=0.0)


def last_operator(model: Any, name: str, forming: frozenset[str] = FORMING) -> str | None:
    """Return the operator that computes an output, ignoring reshapes and casts after it."""
    node = last_node(model, name, forming)
    return node.op_type if node is not None else None


def last_node(model: Any, name: str, forming: frozenset[str] = FORMING) -> Any:
    """Return the node that computes an output; None if it is not found."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for _ in range(_MOST_FORMS):
        node = makers.get(name)
        if node is None or node.op_type not in forming or not node.input:
            return node
        name = node.input[0]
    return None


def measure(graph: Graph, name: str, size: Size) -> tuple[int, ...] | None:
    """Return the shape of an inner tensor for an input of this size; None if it cannot be computed."""
    import onnx

    def expose(model: Any) -> None:
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name=name))

    exposed = edit(graph, expose)
    try:
        (output,) = _run(exposed, draw_noise(graph, size, 2014), False)
    except (Refused, MemoryError):
        return None
    return output.shape


def run_once(graph: Graph, pixels: Floats) -> list[Output]:
    """Return the outputs for (1, channels, height, width), 0 to 1. Raises Refused, MemoryError."""
    return _run(graph, pixels, True)


def _check_kind(kind: int, shape: tuple[int | None, ...]) -> None:
    from onnx import TensorProto

    if len(shape) == 3 and (shape[0] in (1, 3) or shape[2] in (1, 3)):
        text = f"{_WANTED} Export it with a batch of 1. Detectors of torchvision are not supported."
        raise Refused(text, code="inputs")
    if len(shape) != 4:
        raise Refused(f"{_WANTED} It has {len(shape)} dimensions.", code="inputs")
    if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8):
        text = (
            f"Its input has the type {TensorProto.DataType.Name(kind).lower()}. Export it with an input of "
            "type float32, float16 or uint8."
        )
        raise Refused(text, code="inputs")


def _steps_to(kind: int) -> list[surgery.NewNode]:
    """Return the nodes that convert floats, 0 to 1, to the input type. Bytes are 0 to 255."""
    from onnx import TensorProto

    if kind == TensorProto.UINT8:
        return [surgery.multiply([255]), surgery.add([0.5]), surgery.cast(kind)]
    return [surgery.cast(kind)] if kind == TensorProto.DOUBLE else []


def _check_shape(shape: tuple[int | None, ...]) -> None:
    if shape[0] not in (None, 1):
        text = f"Its batch size is {shape[0]}. Export it with a batch size of 1, or with a dynamic one."
        raise Refused(text, code="inputs")
    if shape[1] not in (None, 1, 3):
        text = f"Its input has {shape[1]} channels. Only 3 (red, green, blue) or 1 (gray) are supported."
        raise Refused(text, code="inputs")
    if (shape[2] is None) != (shape[3] is None):
        text = "Only one side of its input is fixed. Export it with both sides fixed, or both dynamic."
        raise Refused(text, code="inputs")


def _shape_of(given: Any) -> tuple[int | None, ...]:
    return tuple(side.dim_value if side.dim_value > 0 else None for side in given.type.tensor_type.shape.dim)


def _has_channels_last(shape: tuple[int | None, ...]) -> bool:
    """Return whether the shape is (1, height, width, channels), as in TensorFlow."""
    return shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)


def _is_ours(name: str, tensor: Any) -> bool:
    """Return whether graph surgery added the tensor. It is small, so no weights can use such a name."""
    numbers: int = math.prod(tensor.dims)
    return name.startswith(surgery.OWN) and numbers <= _MOST_OWN_NUMBERS


def _pin(graph: Graph, size: Size) -> Graph:
    def pin(model: Any) -> None:
        dimensions = find_inputs(model)[0].type.tensor_type.shape.dim
        dimensions[2].dim_value, dimensions[3].dim_value = size[1], size[0]

    return replace(edit(graph, pin), shape=(*graph.shape[:2], size[1], size[0]))


def _differ(found: Output, wanted: Output) -> float:
    """Return the largest difference of two outputs; for integers, the fraction that differs."""
    # Sorted, because TopK may order nearly equal scores differently.
    a, b = (np.sort(one, axis=None).astype(np.float32) for one in (found, wanted))
    apart = compare(a, b)
    if apart and np.array_equal(wanted, np.rint(wanted)):
        return min(apart, float((found != wanted).mean()))
    return apart


def _run(graph: Graph, sample: Floats, optimize: bool) -> list[Output]:
    import onnxruntime

    given = {graph.name: sample.astype(np.float16) if graph.is_half else sample}
    options = make_options(severity=SILENT)
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with raise_memory_errors():
            session = onnxruntime.InferenceSession(graph.data, options, providers=["CPUExecutionProvider"])
            outputs: list[Output] = session.run(None, given)
    except MemoryError:
        raise
    except Exception as error:
        raise Refused(f"ONNX Runtime cannot run it: {explain(error, 200)}", code="runtime") from error
    return outputs
