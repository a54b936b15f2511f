"""Safety check of an ONNX graph before a runtime loads it: operators, external data, tensor sizes.

It only walks the protobuf fields. Format: onnx/onnx.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from workers.checkpoints.onnx_header import read_onnx
from workers.checkpoints.protobuf import BYTES, VARINT, Field, read_varint, walk
from workers.checkpoints.upload import Refused, show
from workers.formats.byte_source import ByteSource, FormatError

MOST_DEPTH = 3
# Most values of a tensor with a constant shape.
MOST_NUMBERS = 2**28
_MOST_METADATA_BYTES = 1024 * 1024

# Operators of the standard domain that vision models use. None reads a file. Loop and Scan are missing,
# because they could run without end.
_ARITHMETIC = """
    Abs Acos Add And ArgMax ArgMin Asin Atan BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
    Cast CastLike Ceil Celu Clip Cos Cosh CumSum Div Elu Equal Erf Exp Floor Gelu Greater
    GreaterOrEqual HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min
    Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh
    Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
"""
_SHAPES = """
    CenterCropPad Col2Im Compress Concat Constant ConstantOfShape DepthToSpace Expand EyeLike
    Flatten Gather GatherElements GatherND Identity NonZero OneHot Pad Range Reshape Resize
    ReverseSequence ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile TopK
    Transpose Trilu Unique Unsqueeze Upsample
"""
_LAYERS = """
    AffineGrid Attention AveragePool BatchNormalization Conv ConvInteger ConvTranspose DeformConv
    DequantizeLinear Dropout DynamicQuantizeLinear Einsum Gemm GlobalAveragePool GlobalMaxPool
    GridSample GroupNormalization Hardmax If InstanceNormalization LRN LayerNormalization LogSoftmax
    LpNormalization LpPool MatMul MatMulInteger MaxPool MaxUnpool MeanVarianceNormalization
    NonMaxSuppression QLinearConv QLinearMatMul QuantizeLinear RMSNormalization ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    RoiAlign RotaryEmbedding Softmax
"""
KNOWN_OPERATORS = frozenset(f"{_ARITHMETIC} {_SHAPES} {_LAYERS}".split())
_DOMAINS = ("", "ai.onnx")

# Index of the input that determines an operator's output size.
_SIZES = {
    "ConstantOfShape": 0,
    "Expand": 1,
    "Tile": 1,
    "Reshape": 1,
    "Resize": 3,
    "Upsample": 1,
    "CenterCropPad": 1,
}
_MOST_SIZES = 64

# Magic bytes of ONNX Runtime's own format, at offset 4. It would not read such a file as ONNX.
_ORT_MAGIC = b"ORTM"

# ModelProto.
_GRAPH, _METADATA, _FUNCTIONS = 7, 14, 25
# GraphProto.
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15
# NodeProto.
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
# AttributeProto: a tensor, a graph, lists of them, sparse tensors.
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE_ONE, _SPARSE_MANY = 5, 6, 10, 11, 22, 23
# TensorProto.
_DIMS, _KIND, _INT64, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 7, 8, 9, 13, 14
_INT64_KIND = 7


def check_graph(source: ByteSource) -> dict[str, str]:
    """Return the metadata of an ONNX model that is safe to load.

    Raises:
        Refused: it uses unknown operators, external data, deep nesting or huge tensors.
        FormatError: it is not an ONNX model.
    """
    if source.size >= 8 and source.at(4, 4) == _ORT_MAGIC:
        raise Refused("The model is in ONNX Runtime’s own format. Export it as ONNX.", code="format")
    read_onnx(source)
    metadata: dict[str, str] = {}
    for found in walk(source, 0, source.size):
        if found.number == _FUNCTIONS:
            raise Refused("The model has its own functions. Export it without them.", code="operators")
        if found.number == _METADATA:
            key, value = _read_metadata(source, found)
            metadata[key] = value
        if found.number == _GRAPH:
            _check_graph(source, found, {}, 0)
    return metadata


@dataclass
class _Node:
    operator: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: list[Field] = field(default_factory=list)
    graphs: list[Field] = field(default_factory=list)


def _check_graph(source: ByteSource, graph: Field, outer: dict[str, list[int]], depth: int) -> None:
    if depth > MOST_DEPTH:
        raise Refused(f"The graph has more than {MOST_DEPTH} levels of subgraphs.", code="operators")
    sizes = dict(outer)
    fields = list(walk(source, graph.start, graph.end))
    if any(found.number == _SPARSE for found in fields):
        raise Refused("The model has sparse tensors, which are not supported.", code="operators")
    for found in fields:
        if found.number == _INITIALIZER:
            name, values = _read_tensor(source, found)
            if values is not None:
                sizes[name] = values
    for found in fields:
        if found.number == _NODE:
            _check_node(source, _read_node(source, found), sizes, depth)


def _check_node(source: ByteSource, node: _Node, sizes: dict[str, list[int]], depth: int) -> None:
    if node.domain not in _DOMAINS or node.operator not in KNOWN_OPERATORS:
        shown = show(f"{node.domain}.{node.operator}".lstrip("."), 80)
        advice = " Upload the file before it was optimized for a runtime." if node.domain else ""
        raise Refused(f"The operator {shown} is not supported.{advice}", code="operators")
    for tensor in node.tensors:
        _, values = _read_tensor(source, tensor)
        if values is not None and node.operator == "Constant":
            sizes.update(dict.fromkeys(node.outputs, values))
    at = _SIZES.get(node.operator)
    wanted = sizes.get(node.inputs[at]) if at is not None and at < len(node.inputs) else None
    if wanted is not None and math.prod(abs(size) for size in wanted if size) > MOST_NUMBERS:
        raise Refused(
            f"The operator {node.operator} creates a tensor with more than {MOST_NUMBERS:,} values.",
            code="bomb",
        )
    for graph in node.graphs:
        _check_graph(source, graph, sizes, depth + 1)


def _read_node(source: ByteSource, found: Field) -> _Node:
    node = _Node()
    for inner in walk(source, found.start, found.end):
        if inner.number == _OPERATOR:
            node.operator = _text(source, inner)
        elif inner.number == _DOMAIN:
            node.domain = _text(source, inner)
        elif inner.number == _INPUT:
            node.inputs.append(_text(source, inner))
        elif inner.number == _OUTPUT:
            node.outputs.append(_text(source, inner))
        elif inner.number == _ATTRIBUTE:
            _read_attribute(source, inner, node)
    return node


def _read_attribute(source: ByteSource, attribute: Field, node: _Node) -> None:
    if attribute.wire != BYTES:
        raise FormatError("An attribute is not valid.")
    for inner in walk(source, attribute.start, attribute.end):
        if inner.number in (_SPARSE_ONE, _SPARSE_MANY):
            raise Refused("The model has sparse tensors, which are not supported.", code="operators")
        if inner.number in (_TENSOR, _TENSORS) and inner.wire == BYTES:
            node.tensors.append(inner)
        elif inner.number in (_SUBGRAPH, _SUBGRAPHS) and inner.wire == BYTES:
            node.graphs.append(inner)


def _read_tensor(source: ByteSource, tensor: Field) -> tuple[str, list[int] | None]:
    """Return a tensor's name, and its values if it is a short list of integers."""
    name, kind, raw = "", 0, b""
    values: list[int] = []
    for inner in walk(source, tensor.start, tensor.end):
        if inner.number == _EXTERNAL or (inner.number == _LOCATION and inner.value):
            text = (
                "The model has tensors in another file. Export it as one file: pass external_data=False to "
                "torch.onnx.export."
            )
            raise Refused(text, code="external")
        if inner.number == _KIND:
            kind = inner.value
        elif inner.number == _NAME:
            name = _text(source, inner)
        elif inner.number == _RAW and inner.end - inner.start <= 8 * _MOST_SIZES:
            raw = source.at(inner.start, inner.end - inner.start)
        elif inner.number == _INT64 and len(values) <= _MOST_SIZES:
            values += _numbers(source, inner)
    if kind != _INT64_KIND:
        return name, None
    return name, values or [value for (value,) in struct.iter_unpack("<q", raw[: len(raw) // 8 * 8])] or None


def _numbers(source: ByteSource, found: Field) -> Iterator[int]:
    if found.wire == VARINT:
        yield found.value
        return
    data = source.at(found.start, min(found.end - found.start, 10 * _MOST_SIZES))
    at = 0
    while at < len(data):
        value, at = read_varint(data, at)
        # Negative numbers are stored in two's complement of 64 bits.
        yield value - 2**64 if value >= 2**63 else value


def _read_metadata(source: ByteSource, found: Field) -> tuple[str, str]:
    if found.end - found.start > _MOST_METADATA_BYTES:
        raise Refused("An entry of the metadata is larger than 1 MiB.", code="too_large")
    parts = {1: "", 2: ""}
    for inner in walk(source, found.start, found.end):
        if inner.number in parts and inner.wire == BYTES:
            parts[inner.number] = source.at(inner.start, inner.end - inner.start).decode(errors="replace")
    return parts[1], parts[2]


def _text(source: ByteSource, found: Field) -> str:
    if found.wire != BYTES or found.end - found.start > 1000:
        raise FormatError("A name is longer than 1000 bytes.")
    return source.at(found.start, found.end - found.start).decode(errors="replace")
