"""Read the header of a safetensors file, and check it against the file's length.

Format: huggingface/safetensors, README, «Format».
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from workers.checkpoints.facts import WeightsFacts, check_parameters
from workers.formats.byte_source import ByteSource, FormatError

# The header of 5,000 tensors has half a megabyte. Reading 4 MiB takes a tenth of a second.
MOST_HEADER_BYTES = 4 * 1024 * 1024
# Reading this much takes a web process at most 50 milliseconds. It is enough for 2,000 tensors.
MOST_SNIFFED_BYTES = 128 * 1024
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


def recognize_safetensors(source: ByteSource) -> None:
    """Check the header if it is short. Of a long header, check only that it is complete.

    Raises:
        FormatError: as `read_safetensors`.
    """
    length = _header_length(source)
    if length <= MOST_SNIFFED_BYTES:
        read_safetensors(source)
    # Spaces may follow the header, to align the tensors.
    elif source.at(8 + length - 1, 1) not in b"} ":
        raise FormatError("The header is not a JSON object.")


def read_safetensors(source: ByteSource) -> WeightsFacts:
    """Return the counts of tensors and parameters, and their types.

    Raises:
        FormatError: the header is too long or not valid, or the tensors do not fill the file exactly.
    """
    length = _header_length(source)
    header = _parse(source.at(8, length))
    spans, parameters, dtypes = [], 0, set()
    for name, tensor in header.items():
        if name == "__metadata__":
            _check_metadata(tensor)
            continue
        numbers, dtype, begin, end = _read_tensor(tensor)
        parameters += numbers
        dtypes.add(dtype)
        spans.append((begin, end))
    _check_spans(spans, source.size - 8 - length)
    return WeightsFacts(
        format="safetensors",
        tensors=len(spans),
        parameters=check_parameters(parameters),
        dtypes=tuple(sorted(dtypes)),
    )


def _header_length(source: ByteSource) -> int:
    length: int = struct.unpack("<Q", source.at(0, 8))[0]
    if not 2 <= length <= min(MOST_HEADER_BYTES, source.size - 8):
        raise FormatError(
            f"The header has {length:,} bytes. The limits are {MOST_HEADER_BYTES:,} and the file’s size."
        )
    return length


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw.decode(), object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise FormatError("The header is not valid JSON.") from error
    if not isinstance(header, dict):
        raise FormatError("The header is not a JSON object.")
    return header


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise FormatError("The header has a name twice.")
    return entries


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError("A value of the metadata is not a string.")


def _read_tensor(tensor: Any) -> tuple[int, str, int, int]:
    """Return a tensor's count of values, their type, and their start and end offsets."""
    if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError("The description of a tensor is not valid.")
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise FormatError("The description of a tensor is not valid.")
    numbers = math.prod(shape)
    if (offsets[1] - offsets[0]) * 8 != numbers * bits:
        raise FormatError("The byte count of a tensor does not match its shape.")
    return numbers, dtype, offsets[0], offsets[1]


def _are_counts(values: Any) -> bool:
    # bool is a subclass of int, and integers of thousands of digits take long to multiply.
    return (
        isinstance(values, list)
        and len(values) <= 32
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def _check_spans(spans: list[tuple[int, int]], length: int) -> None:
    """Check that each byte belongs to exactly one tensor, so that no data can hide between them."""
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise FormatError("The tensors have gaps or overlap.")
        position = end
    if position != length or not spans:
        raise FormatError("The tensors do not fill the file.")
