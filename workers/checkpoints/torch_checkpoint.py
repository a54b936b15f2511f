"""Read a PyTorch checkpoint (ZIP archive): its pickle with the safe reader, its tensors as file records."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from workers.checkpoints.pickle_allowlist import STORAGES
from workers.checkpoints.pickle_reader import MOST_BYTES, PICKLE_TOO_LARGE, Name, read_pickle
from workers.checkpoints.tensors import ITEM_BYTES, Storage
from workers.checkpoints.torch_zip import TorchZipEntry, content_start, read_members
from workers.checkpoints.upload import Refused
from workers.formats.byte_source import ByteSource, FormatError


@dataclass(frozen=True)
class _Span:
    start: int
    size: int


def read_archive(path: Path) -> Any:
    """Return the content of a checkpoint, with tensors as records of the file.

    Raises:
        Refused: it is damaged, contains code, or a name that is not on the allowlist.
        FormatError: it is not a PyTorch archive.
    """
    with path.open("rb") as stream:
        source = ByteSource(stream)
        spans = _read_spans(source)
        pickle = spans["data.pkl"]
        if pickle.size > MOST_BYTES:
            raise Refused(PICKLE_TOO_LARGE, code="too_large")
        order = spans.get("byteorder")
        if order is not None and source.at(order.start, min(order.size, 16)).strip() != b"little":
            raise Refused(
                "Its values are in big-endian byte order. Save it on a little-endian machine.", code="format"
            )
        data = source.at(pickle.start, pickle.size)
    return read_pickle(data, lambda persistent_id: _storage(persistent_id, spans))


def _read_spans(source: ByteSource) -> dict[str, _Span]:
    """Return the byte range of each member, by its name in the archive's folder."""
    members = read_members(source)
    root = members[0].name.partition("/")[0]
    if not all(member.name.startswith(f"{root}/") for member in members):
        raise FormatError("The archive’s members are not in one folder.")
    names = {member.name.removeprefix(f"{root}/"): member for member in members}
    if len(names) != len(members) or "data.pkl" not in names:
        raise FormatError("The archive has no data.pkl, or a name twice.")
    spans = {name: _Span(content_start(source, member), member.size) for name, member in names.items()}
    _check_overlaps(source, list(names.values()), list(spans.values()))
    return spans


def _check_overlaps(source: ByteSource, members: list[TorchZipEntry], spans: list[_Span]) -> None:
    """Raise FormatError if members share bytes: a small file could then contain many large tensors."""
    ranges = sorted(
        (member.offset, span.start + span.size) for member, span in zip(members, spans, strict=True)
    )
    if ranges[-1][1] > source.size or any(end > start for (_, end), (start, _) in pairwise(ranges)):
        raise FormatError("The archive’s members overlap.")


def _storage(persistent_id: Any, spans: dict[str, _Span]) -> Storage:
    """Return the storage of a persistent id: ("storage", type, key, device, count of values)."""
    if not isinstance(persistent_id, tuple) or len(persistent_id) != 5 or persistent_id[0] != "storage":
        raise Refused("Its pickle has an unknown persistent ID.", code="pickle")
    _, kind, key, _, count = persistent_id
    dtype = STORAGES.get(kind.name) if isinstance(kind, Name) and kind.module == "torch" else None
    if dtype is None or not isinstance(key, str) or type(count) is not int or count < 0:
        raise Refused("It has tensors of an unknown type.", code="dtype")
    span = spans.get(f"data/{key}")
    if span is None or count * ITEM_BYTES[dtype] != span.size:
        raise Refused("The byte count of a tensor’s storage does not match its size.", code="damaged")
    return Storage(dtype, span.start, count)
