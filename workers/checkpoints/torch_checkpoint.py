"""A PyTorch archive: its pickle read by the inert machine, its storages where the table says they are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from workers.checkpoints.pickle_allowlist import STORAGES
from workers.checkpoints.pickle_reader import MOST_BYTES, Name, read_pickle
from workers.checkpoints.tensors import ITEM_BYTES, Storage
from workers.checkpoints.torch_zip import TorchZipEntry, content_start, read_members
from workers.checkpoints.upload import Refused
from workers.formats.byte_source import ByteSource, FormatError


@dataclass(frozen=True)
class _Span:
    start: int
    size: int


def read_archive(path: Path) -> Any:
    """Return what a checkpoint holds, tensors as records of the file.

    Raises:
        Refused: it is damaged, carries code, or names what no checkpoint needs.
        FormatError: its table is not that of such an archive.
    """
    with path.open("rb") as stream:
        source = ByteSource(stream)
        spans = _read_spans(source)
        pickle = spans["data.pkl"]
        if pickle.size > MOST_BYTES:
            raise Refused("Its pickle is longer than any checkpoint’s.", code="too_large")
        order = spans.get("byteorder")
        if order is not None and source.at(order.start, min(order.size, 16)).strip() != b"little":
            raise Refused(
                "Its numbers are stored in big-endian order. Save it on another machine.", code="format"
            )
        data = source.at(pickle.start, pickle.size)
    return read_pickle(data, lambda found: _storage(found, spans))


def _read_spans(source: ByteSource) -> dict[str, _Span]:
    """Return where the content of each member lies, by its name in the archive's folder."""
    members = read_members(source)
    root = members[0].name.partition("/")[0]
    if not all(member.name.startswith(f"{root}/") for member in members):
        raise FormatError("Its members do not lie in one folder.")
    names = {member.name.removeprefix(f"{root}/"): member for member in members}
    if len(names) != len(members) or "data.pkl" not in names:
        raise FormatError("It has no pickle of tensors, or a name twice.")
    spans = {name: _Span(content_start(source, member), member.size) for name, member in names.items()}
    _check_apart(source, list(names.values()), list(spans.values()))
    return spans


def _check_apart(source: ByteSource, members: list[TorchZipEntry], spans: list[_Span]) -> None:
    """Members that share bytes would let a small file hold many large tensors, and hide what is read."""
    found = sorted(
        (member.offset, span.start + span.size) for member, span in zip(members, spans, strict=True)
    )
    if found[-1][1] > source.size or any(end > start for (_, end), (start, _) in pairwise(found)):
        raise FormatError("Its members lie on each other.")


def _storage(found: Any, spans: dict[str, _Span]) -> Storage:
    """Return the storage of a persistent id: ("storage", its type, its key, its device, how many numbers)."""
    if not isinstance(found, tuple) or len(found) != 5 or found[0] != "storage":
        raise Refused("Its pickle refers to something outside of it.", code="pickle")
    _, kind, key, _, count = found
    dtype = STORAGES.get(kind.name) if isinstance(kind, Name) and kind.module == "torch" else None
    if dtype is None or not isinstance(key, str) or type(count) is not int or count < 0:
        raise Refused("It has tensors of a kind that is not known.", code="dtype")
    span = spans.get(f"data/{key}")
    if span is None or count * ITEM_BYTES[dtype] != span.size:
        raise Refused("It has not as many bytes for its tensors as it says.", code="damaged")
    return Storage(dtype, span.start, count)
