"""Open a file of weights as `WeightsUpload`: detect its format and check it, without unpickling."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.checkpoints.onnx_check import check_graph
from workers.checkpoints.safetensors_header import read_safetensors
from workers.checkpoints.tensors import Storage, TensorRecord, Tensors, record_tensor
from workers.checkpoints.torch_checkpoint import read_archive
from workers.checkpoints.torch_zip import refuse_pickle
from workers.checkpoints.upload import Refused, WeightsUpload
from workers.formats.byte_source import ByteSource, FormatError

MOST_CONFIG_BYTES = 1024 * 1024
MOST_ENTRIES, MOST_DEPTH, MOST_NAME = 100_000, 12, 500
# Averaged weights may be lists: of unnamed tensors, or of a state dict and a count.
_LISTED = frozenset({"shadow_params", "ema", "ema_params", "ema_weights", "ema_parameters", "model_ema"})
_SAFE_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def open_upload(path: Path, config: Path | None = None) -> WeightsUpload:
    """Read a file of weights and its uploaded `config.json`. Raises Refused."""
    with path.open("rb") as stream:
        head = stream.read(16)
    try:
        return _open(path, head, None if config is None else _read_config(config))
    except FormatError as error:
        raise Refused(f"The file is damaged, or has another format. {error}", code="damaged") from error


def _open(path: Path, head: bytes, config: Mapping[str, Any] | None) -> WeightsUpload:
    refuse_pickle(head)
    if head.startswith(b"PK\3\4"):
        tree = read_archive(path)
        return WeightsUpload("torch", path, Tensors(path, dict(_flatten(tree))), tree, config)
    if head[8:9] == b"{":
        records, metadata = _read_safetensors(path)
        return WeightsUpload("safetensors", path, Tensors(path, records), None, config, metadata)
    with path.open("rb") as stream:
        metadata = check_graph(ByteSource(stream))
    return WeightsUpload("onnx", path, config=config, metadata=metadata)


def _flatten(tree: Any) -> Iterator[tuple[str, TensorRecord]]:
    """Yield the tensors in dictionaries by their dotted names. Families read those in objects themselves."""
    waiting, seen = [("", tree, 0)], 0
    while waiting:
        prefix, node, depth = waiting.pop()
        for key, value in node.items() if isinstance(node, dict) else ():
            seen += 1
            if seen > MOST_ENTRIES or depth > MOST_DEPTH:
                text = f"It has more than {MOST_ENTRIES:,} entries, or more than {MOST_DEPTH} levels of them."
                raise Refused(text, code="too_large")
            if not isinstance(key, (str, int)) or len(str(key)) > MOST_NAME:
                continue
            if isinstance(value, TensorRecord):
                yield f"{prefix}{key}", value
            elif isinstance(value, dict):
                waiting.append((f"{prefix}{key}.", value, depth + 1))
            elif key in _LISTED and isinstance(value, (list, tuple)):
                waiting.append((f"{prefix}{key}.", dict(enumerate(value)), depth + 1))


def _read_safetensors(path: Path) -> tuple[dict[str, TensorRecord], dict[str, str]]:
    with path.open("rb") as stream:
        source = ByteSource(stream)
        read_safetensors(source)
        length = struct.unpack("<Q", source.at(0, 8))[0]
        header = json.loads(source.at(8, length))
    metadata = header.pop("__metadata__", {})
    return {name: _safe_record(tensor, 8 + length) for name, tensor in header.items()}, metadata


def _safe_record(tensor: dict[str, Any], data: int) -> TensorRecord:
    dtype = _SAFE_DTYPES.get(tensor["dtype"])
    if dtype is None:
        raise Refused(f"It has values of the type {tensor['dtype']}, which is not supported.", code="dtype")
    shape = tuple(tensor["shape"])
    stride, count = [], 1
    for size in reversed(shape):
        stride.append(count)
        count *= size
    storage = Storage(dtype, data + tensor["data_offsets"][0], count)
    return record_tensor(storage, 0, shape, tuple(reversed(stride)))


def _read_config(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    try:
        config = json.loads(raw) if len(raw) <= MOST_CONFIG_BYTES else None
    except (ValueError, RecursionError) as error:
        raise Refused("The uploaded config.json is not valid JSON.", code="config") from error
    if not isinstance(config, dict):
        raise Refused("The uploaded config.json is larger than 1 MiB, or not a JSON object.", code="config")
    return config
