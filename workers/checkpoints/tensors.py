"""Lazy tensors of a weights file: their descriptions are checked first, and torch tensors made on access."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.checkpoints.upload import MOST_PARAMETERS, Refused

# Bytes of each torch data type.
ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1,
}  # fmt: skip
_MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Storage:
    """`count` values of one type, from byte `start` of the file."""

    dtype: str
    start: int
    count: int


@dataclass(frozen=True)
class TensorRecord:
    """A tensor in a storage of the file. `offset` and `stride` count values, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.storage.dtype

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


def record_tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorRecord:
    """Return a tensor record after checking that all its values are inside its storage.

    Raises:
        Refused: it reaches beyond its storage, has negative strides, or is larger than its storage.
    """
    if not isinstance(storage, Storage) or not _is_count(offset) or not _are_counts(shape, stride):
        raise _out_of_bounds()
    record = TensorRecord(storage, offset, tuple(shape), tuple(stride))
    if record.numbers > storage.count:
        raise _out_of_bounds()
    if record.numbers:
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if last >= storage.count:
            raise _out_of_bounds()
    return record


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _are_counts(shape: Any, stride: Any) -> bool:
    return (
        isinstance(shape, tuple)
        and isinstance(stride, tuple)
        and len(shape) == len(stride) <= _MOST_DIMENSIONS
        and all(map(_is_count, (*shape, *stride)))
    )


def _out_of_bounds() -> Refused:
    return Refused("A tensor reaches beyond its bytes in the file.", code="damaged")


class Tensors(Mapping[str, Any]):
    """The tensors of a file by name, on the CPU. They map the file without a copy.

    Writing into a tensor does not change the file.
    """

    def __init__(self, path: Path, records: Mapping[str, TensorRecord]) -> None:
        """Raises Refused if all tensors together have more values than a model may have."""
        if sum(record.numbers for record in records.values()) > MOST_PARAMETERS:
            raise Refused(f"It has more than {MOST_PARAMETERS:,} parameters.", code="too_large")
        self.records = dict(records)
        self._path = path
        self._map: mmap.mmap | None = None

    def __getitem__(self, name: str) -> Any:
        return self.make(self.records[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def make(self, record: TensorRecord) -> Any:
        """Return the torch tensor of a record of this file."""
        import torch

        dtype, storage = getattr(torch, record.dtype), record.storage
        if not record.numbers:
            return torch.empty(record.shape, dtype=dtype)
        if self._map is None:
            with self._path.open("rb") as stream:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        data: Any = self._map
        start, size = storage.start, storage.count * ITEM_BYTES[storage.dtype]
        if start % ITEM_BYTES[storage.dtype]:
            # torch needs aligned values.
            data, start = bytearray(self._map[start : start + size]), 0
        flat = torch.frombuffer(data, dtype=dtype, count=storage.count, offset=start)
        return torch.as_strided(flat, record.shape, record.stride, record.offset)
