"""Read facts about an ONNX model from its protobuf fields, without loading it. Format: onnx/onnx.proto."""

from __future__ import annotations

import math

from workers.checkpoints.facts import WeightsFacts, check_parameters
from workers.checkpoints.protobuf import BYTES, VARINT, Field, read_varint, walk
from workers.checkpoints.upload import show
from workers.formats.byte_source import ByteSource, FormatError

# ModelProto: ir_version, producer_name, producer_version, domain, model_version, doc_string, graph,
# opset_import, metadata_props, training_info, functions, configuration.
_MODEL = {
    1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES, 8: BYTES, 14: BYTES, 20: BYTES,
    25: BYTES, 26: BYTES,
}  # fmt: skip
_IR_VERSION, _PRODUCER, _PRODUCER_VERSION, _GRAPH, _OPSET = 1, 2, 3, 7, 8
# GraphProto: node, name, initializer, doc_string, input, output, value_info, quantization_annotation,
# sparse_initializer, metadata_props.
_GRAPH_FIELDS = frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16})
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12
_DIMS, _DATA_TYPE, _RAW_DATA, _LOCATION = 1, 2, 9, 14
_MOST_IR_VERSION = 100
# fmt: off
_DTYPES = (
    "UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL", "FLOAT16",
    "DOUBLE", "UINT32", "UINT64", "COMPLEX64", "COMPLEX128", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ",
    "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "UINT4", "INT4", "FLOAT4E2M1", "FLOAT8E8M0",
)
# fmt: on
_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_MOST_TEXT = 200


def read_onnx(source: ByteSource) -> WeightsFacts:
    """Return format, producer, and counts of nodes, tensors and parameters of an ONNX model.

    Raises:
        FormatError: its fields do not end with the file, or are not those of a model.
    """
    single: dict[int, Field] = {}
    opsets = []
    for field in walk(source, 0, source.size):
        if _MODEL.get(field.number) != field.wire:
            raise FormatError("The model has an unknown field.")
        if field.number == _OPSET:
            opsets.append(_read_opset(source, field))
        elif field.number in (_IR_VERSION, _GRAPH) and field.number in single:
            raise FormatError("The model has two graphs or versions.")
        single[field.number] = field
    graph = single.get(_GRAPH)
    if graph is None or not opsets or not 1 <= single.get(_IR_VERSION, graph).value <= _MOST_IR_VERSION:
        raise FormatError("The model has no graph, no version or no operators.")
    nodes, tensors, parameters, dtypes = _read_graph(source, graph)
    names = (_text(source, single.get(number)) for number in (_PRODUCER, _PRODUCER_VERSION))
    return WeightsFacts(
        format="ONNX",
        tensors=tensors,
        parameters=check_parameters(parameters),
        dtypes=tuple(sorted(dtypes)),
        producer=" ".join(name for name in names if name),
        opset=max((version for domain, version in opsets if domain in ("", "ai.onnx")), default=None),
        nodes=nodes,
    )


def _read_opset(source: ByteSource, field: Field) -> tuple[str, int]:
    """Return domain and version of an OperatorSetIdProto."""
    domain, version = "", 0
    for inner in walk(source, field.start, field.end):
        if inner.number == 1 and inner.wire == BYTES:
            domain = _text(source, inner)
        elif inner.number == 2 and inner.wire == VARINT:
            version = inner.value
        else:
            raise FormatError("The operator set has an unknown field.")
    return domain, version if version < 2**31 else 0


def _read_graph(source: ByteSource, graph: Field) -> tuple[int, int, int, set[str]]:
    """Return the counts of nodes, tensors and parameters of a graph, and the parameters' types."""
    nodes = tensors = parameters = outputs = 0
    dtypes = set()
    for field in walk(source, graph.start, graph.end):
        if field.number not in _GRAPH_FIELDS or field.wire != BYTES:
            raise FormatError("The graph has an unknown field.")
        nodes += field.number == _NODE
        outputs += field.number == _OUTPUT
        if field.number == _INITIALIZER:
            count, dtype = _read_tensor(source, field)
            tensors += 1
            parameters += count
            dtypes.add(dtype)
    if not nodes or not outputs:
        raise FormatError("The graph has no nodes or no outputs.")
    return nodes, tensors, parameters, dtypes


def _read_tensor(source: ByteSource, tensor: Field) -> tuple[int, str]:
    dims: list[int] = []
    kind, raw, elsewhere = 0, None, False
    for field in walk(source, tensor.start, tensor.end):
        if field.number == _DIMS:
            dims += [field.value] if field.wire == VARINT else _packed(source, field)
        elif field.number == _DATA_TYPE and field.wire == VARINT:
            kind = field.value
        elif field.number == _RAW_DATA and field.wire == BYTES:
            raw = field.end - field.start
        elif field.number == _LOCATION and field.wire == VARINT:
            elsewhere = bool(field.value)
    if len(dims) > 32 or any(size >= 2**63 for size in dims) or not 0 < kind < len(_DTYPES):
        raise FormatError("The description of a tensor is not valid.")
    count = math.prod(dims)
    if raw is not None and not elsewhere and kind in _BYTES and raw != count * _BYTES[kind]:
        raise FormatError("The byte count of a tensor does not match its shape.")
    return count, _DTYPES[kind]


def _packed(source: ByteSource, field: Field) -> list[int]:
    if field.wire != BYTES or field.end - field.start > 32 * 10:
        raise FormatError("The description of a tensor is not valid.")
    data, at, values = source.at(field.start, field.end - field.start), 0, []
    while at < len(data):
        value, at = read_varint(data, at)
        values.append(value)
    return values


def _text(source: ByteSource, field: Field | None) -> str:
    if field is None:
        return ""
    text = source.at(field.start, min(_MOST_TEXT, field.end - field.start)).decode(errors="replace")
    return show(text, _MOST_TEXT)
