"""What the table of a PyTorch archive says. Its pickle is not loaded, nothing is unpacked. PKWARE APPNOTE."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from workers.checkpoints.facts import WeightsFacts
from workers.checkpoints.upload import Refused
from workers.formats.byte_source import ByteSource, FormatError

# How a checkpoint begins that PyTorch before 1.6 wrote: one pickle after another, the first a magic number.
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# What the first member of an archive is called: that depends on PyTorch's release.
_FIRST = re.compile(rb"[^/]+/(data\.pkl|data/[0-9]+|version|byteorder|constants\.pkl|code/.+)", re.DOTALL)
# Its name, which has that of the file in it, lies within so many bytes.
START_BYTES = 512

MOST_TABLE_BYTES = 8 * 1024 * 1024
MOST_MEMBERS = 50_000
_END, _END64, _LOCATOR, _ENTRY, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_STORED = 0
# What a member costs, measured in parts that are only looked at.
_MEMBER_WEIGHT = 2
_ENCRYPTED = 0x1
_MOST_COMMENT = 65_535
# Names of weights in the folders that Hugging Face and timm save.
_WEIGHTS = (".safetensors", ".onnx", "pytorch_model.bin")


class CutShortError(FormatError):
    """An archive whose end is missing."""


@dataclass(frozen=True)
class TorchZipEntry:
    """One file of an archive: `size` bytes, whose local header lies at `offset`."""

    name: str
    size: int
    offset: int
    is_plain: bool
    """Whether the archive has just these bytes for it: not packed, not encrypted, not beyond its end."""


def begins_as_torch(head: bytes) -> bool:
    """Say whether an archive begins as PyTorch writes them, from its first START_BYTES."""
    if not head.startswith(_LOCAL) or len(head) < 30:
        return False
    length = struct.unpack("<H", head[26:28])[0]
    return _FIRST.fullmatch(head[30 : 30 + length]) is not None


def refuse_pickle(head: bytes) -> None:
    """Raise Refused where a file begins as a pickle outside of an archive does."""
    if head.startswith(LEGACY_START):
        text = "These weights are of PyTorch before 1.6: save them with a newer one, or as safetensors."
        raise Refused(text, code="legacy")
    # The length of a header of safetensors may begin so too.
    if head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5" and head[4:9] != b"\0\0\0\0{":
        text = (
            "This is a bare pickle, of which nothing can be checked. It is not taken: save the weights with "
            "torch.save, or as safetensors."
        )
        raise Refused(text, code="unsafe")


def read_torch(source: ByteSource) -> WeightsFacts:
    """Return what the table says.

    Raises:
        Refused: it is TorchScript.
        CutShortError: its end is missing.
        FormatError: it is no archive, or none as PyTorch writes them.
    """
    members = read_members(source)
    root = members[0].name.partition("/")[0]
    names = {member.name: member for member in members}
    pickle = names.get(f"{root}/data.pkl")
    if pickle is None or len(names) != len(members):
        raise FormatError("It has no pickle of tensors, or a name twice.")
    if not all(name.startswith(f"{root}/") for name in names):
        raise FormatError("Its members do not lie in one folder.")
    if not _content(source, pickle, 2).startswith(b"\x80"):
        raise FormatError("Its pickle is none.")
    tensors = sum(name.startswith(f"{root}/data/") for name in names)
    return WeightsFacts(format="PyTorch", tensors=tensors)


def read_members(source: ByteSource) -> list[TorchZipEntry]:
    """Return the members of an archive in which nothing is packed. Raises as `read_torch`."""
    members, start = _read_table(source)
    # First of all, for TorchScript packs its code.
    _refuse_script(members)
    _refuse_folder(members)
    # PyTorch packs no numbers. What is packed would unfold to any size.
    if not all(member.is_plain for member in members):
        raise FormatError("A member is packed, or lies about its size.")
    if sum(member.size for member in members) > start:
        raise FormatError("Its table does not fit its members.")
    return members


def content_start(source: ByteSource, member: TorchZipEntry) -> int:
    """Return where the bytes of a member begin. Raises FormatError."""
    head = source.at(member.offset, 30)
    name_length, extra_length = struct.unpack("<HH", head[26:30])
    if head[:4] != _LOCAL:
        raise FormatError("A member is not where the table says.")
    start: int = member.offset + 30 + name_length + extra_length
    source.check(start, member.size)
    return start


def _refuse_script(members: list[TorchZipEntry]) -> None:
    root = members[0].name.partition("/")[0]
    inside = {member.name.removeprefix(f"{root}/") for member in members}
    has_code = "constants.pkl" in inside or any(name.startswith("code/") for name in inside)
    if has_code and "data.pkl" in inside:
        text = "This is TorchScript, which carries code. Upload the checkpoint or its state dict instead."
        raise Refused(text, code="code")


def _refuse_folder(members: list[TorchZipEntry]) -> None:
    names = [member.name.rpartition("/")[2] for member in members]
    if "data.pkl" not in names and any(name.endswith(_WEIGHTS) for name in names):
        text = (
            "This is an archive of a model’s folder. Upload the weights in it alone, such as "
            "model.safetensors, and send the text of its config.json along, with the keys of its "
            "preprocessor_config.json."
        )
        raise Refused(text, code="archive")


def _read_table(source: ByteSource) -> tuple[list[TorchZipEntry], int]:
    """Return what the table lists, of which nothing has been checked, and where the table starts."""
    count, start, end = _find_table(source)
    if not 1 <= count <= MOST_MEMBERS or end - start > MOST_TABLE_BYTES:
        raise FormatError("It has too many members.")
    table = source.at(start, end - start)
    members, position = [], 0
    for _ in range(count):
        source.count_part(_MEMBER_WEIGHT)
        member, position = _read_member(source, table, position, start)
        members.append(member)
    if position != len(table):
        raise FormatError("Its table does not fit its members.")
    return members, start


def _find_table(source: ByteSource) -> tuple[int, int, int]:
    """Return how many members there are, and where their table starts and ends."""
    if source.at(0, 4) != _LOCAL:
        raise FormatError("It is no archive.")
    last = source.size - 22
    if last < 0 or (source.at(last, 4) != _END and not _ends_before(source, last)):
        raise CutShortError("It is cut short: its end is missing.")
    mark, disk, first, here, count, length, start, comment = struct.unpack("<4sHHHHIIH", source.at(last, 22))
    if mark != _END or comment or disk or first or here != count:
        raise FormatError("It does not end as an archive.")
    end = last
    if last >= 20 and source.at(last - 20, 4) == _LOCATOR:
        _, _, end, _ = struct.unpack("<4sIQI", source.at(last - 20, 20))
        if end + 56 != last - 20:
            raise FormatError("Its table is not where it should be.")
        mark, _, _, _, _, _, _, count, length, start = struct.unpack("<4sQHHIIQQQQ", source.at(end, 56))
        if mark != _END64:
            raise FormatError("Its table is not where it should be.")
    if start + length != end:
        raise FormatError("Its table is not where it should be.")
    return count, start, end


def _ends_before(source: ByteSource, last: int) -> bool:
    """Say whether an archive ends somewhere before this place, with something behind it."""
    first = max(0, last - _MOST_COMMENT)
    return _END in source.at(first, last - first + len(_END) - 1)


def _read_member(source: ByteSource, table: bytes, at: int, end: int) -> tuple[TorchZipEntry, int]:
    """Return the entry of the table at a place, and where the next one is."""
    if len(table) < at + 46 or table[at : at + 4] != _ENTRY:
        raise FormatError("Its table is damaged.")
    flags, method = struct.unpack("<HH", table[at + 8 : at + 12])
    packed, size, name_length, extra, comment = struct.unpack("<IIHHH", table[at + 20 : at + 34])
    offset = struct.unpack("<I", table[at + 42 : at + 46])[0]
    name_end = at + 46 + name_length
    size, packed, offset = _widen(source, table[name_end : name_end + extra], size, packed, offset)
    is_plain = method == _STORED and not flags & _ENCRYPTED and packed == size and offset + 30 + size <= end
    try:
        name = table[at + 46 : name_end].decode()
    except UnicodeDecodeError as error:
        raise FormatError("A member has no name.") from error
    return TorchZipEntry(name, size, offset, is_plain), name_end + extra + comment


def _widen(source: ByteSource, extra: bytes, *numbers: int) -> tuple[int, ...]:
    """Return the numbers, those that need 64 bits from the extra field that has them."""
    wide: list[int] = []
    position = 0
    while position + 4 <= len(extra):
        source.count_part()
        kind, length = struct.unpack("<HH", extra[position : position + 4])
        if kind == 1:
            body = extra[position + 4 : position + 4 + length]
            wide = list(struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8]))
        position += 4 + length
    found = []
    for number in numbers:
        if number == 0xFFFFFFFF:
            if not wide:
                raise FormatError("A member lies about its size.")
            number = wide.pop(0)
        found.append(number)
    return tuple(found)


def _content(source: ByteSource, member: TorchZipEntry, most: int) -> bytes:
    return source.at(content_start(source, member), min(most, member.size))
