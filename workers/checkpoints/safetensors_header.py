"""What the header of a safetensors file says, held against the file's length.

Format: huggingface/safetensors, README, «Format».
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from workers.checkpoints.facts import WeightsFacts, check_parameters
from workers.formats.byte_source import ByteSource, FormatError

# A checkpoint of 5,000 tensors has half a megabyte; reading this much takes a tenth of a second.
MOST_HEADER_BYTES = 4 * 1024 * 1024
# Reading no more than this takes a web process 50 milliseconds at most. It has room for 2,000 tensors.
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


def recognise_safetensors(source: ByteSource) -> None:
    """Read the header if it is short; of a long one only look whether all of it is there.

    Raises:
        FormatError: as `read_safetensors`.
    """
    length = _header_length(source)
    if length <= MOST_SNIFFED_BYTES:
        read_safetensors(source)
    # Spaces may stand behind it, so that the tensors are aligned.
    elif source.at(8 + length - 1, 1) not in b"} ":
        raise FormatError("Its header is no JSON object.")


def read_safetensors(source: ByteSource) -> WeightsFacts:
    """Return what the header says.

    Raises:
        FormatError: it is too long, not as it should be, or the tensors do not fill the file exactly.
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
        raise FormatError("Its header is longer than it may be.")
    return length


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw.decode(), object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise FormatError("Its header is no JSON.") from error
    if not isinstance(header, dict):
        raise FormatError("Its header is no JSON object.")
    return header


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("Its header has a name twice.")
    return found


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError("Its metadata are no texts.")


def _read_tensor(tensor: Any) -> tuple[int, str, int, int]:
    """Return how many numbers a tensor has, of which type, and where they begin and end."""
    if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError("It describes a tensor in an unknown way.")
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise FormatError("It describes a tensor in an unknown way.")
    numbers = math.prod(shape)
    if (offsets[1] - offsets[0]) * 8 != numbers * bits:
        raise FormatError("A tensor has not as many bytes as its shape needs.")
    return numbers, dtype, offsets[0], offsets[1]


def _are_counts(values: Any) -> bool:
    # True is an int too, and numbers of thousands of digits would take their time to multiply.
    return (
        isinstance(values, list)
        and len(values) <= 32
        and all(type(value) is int and 0 <= value < 2**63 for value in values)
    )


def _check_spans(spans: list[tuple[int, int]], length: int) -> None:
    """Each byte belongs to one tensor: nothing can hide between them or behind them."""
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            raise FormatError("Its tensors leave gaps or lie on each other.")
        position = end
    if position != length or not spans:
        raise FormatError("Its tensors do not fill the file.")
