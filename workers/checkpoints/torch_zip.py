"""Read the ZIP directory of a PyTorch archive, without its pickle. Format: PKWARE APPNOTE."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from workers.checkpoints.facts import WeightsFacts
from workers.checkpoints.upload import Refused
from workers.formats.byte_source import ByteSource, FormatError

# First bytes of a checkpoint of PyTorch before 1.6: a sequence of pickles, the first a magic number.
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Name of the archive's first member. It depends on PyTorch's version.
_FIRST = re.compile(rb"[^/]+/(data\.pkl|data/[0-9]+|version|byteorder|constants\.pkl|code/.+)", re.DOTALL)
# Enough bytes for this name, which includes the file's name.
START_BYTES = 512

MOST_TABLE_BYTES = 8 * 1024 * 1024
MOST_MEMBERS = 50_000
_END, _END64, _LOCATOR, _ENTRY, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_STORED = 0
# Cost of a member in the count of parts.
_MEMBER_WEIGHT = 2
_ENCRYPTED = 0x1
_MOST_COMMENT = 65_535
# Names of weights in the folders that Hugging Face and timm save.
_WEIGHTS = (".safetensors", ".onnx", "pytorch_model.bin")


class CutShortError(FormatError):
    """The end of an archive is missing."""


@dataclass(frozen=True)
class TorchZipEntry:
    """One file of an archive: `size` bytes, with its local header at `offset`."""

    name: str
    size: int
    offset: int
    is_plain: bool
    """Whether it is stored uncompressed, unencrypted and inside the archive."""


def begins_as_torch(head: bytes) -> bool:
    """Return whether an archive starts like those of PyTorch. `head` is its first START_BYTES."""
    if not head.startswith(_LOCAL) or len(head) < 30:
        return False
    length = struct.unpack("<H", head[26:28])[0]
    return _FIRST.fullmatch(head[30 : 30 + length]) is not None


def refuse_pickle(head: bytes) -> None:
    """Raise Refused if a file starts like a pickle without an archive."""
    if head.startswith(LEGACY_START):
        text = "PyTorch before 1.6 saved these weights. Save them with a newer version, or as safetensors."
        raise Refused(text, code="legacy")
    # The header length of a safetensors file may start with the same bytes.
    if head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5" and head[4:9] != b"\0\0\0\0{":
        text = (
            "This is a plain pickle, which cannot be checked. Save the weights with torch.save, or as "
            "safetensors."
        )
        raise Refused(text, code="unsafe")


def read_torch(source: ByteSource) -> WeightsFacts:
    """Return the format and the count of tensors.

    Raises:
        Refused: it is TorchScript.
        CutShortError: its end is missing.
        FormatError: it is not an archive of PyTorch.
    """
    members = read_members(source)
    root = members[0].name.partition("/")[0]
    names = {member.name: member for member in members}
    pickle = names.get(f"{root}/data.pkl")
    if pickle is None or len(names) != len(members):
        raise FormatError("The archive has no data.pkl, or a name twice.")
    if not all(name.startswith(f"{root}/") for name in names):
        raise FormatError("The archive’s members are not in one folder.")
    if not _content(source, pickle, 2).startswith(b"\x80"):
        raise FormatError("data.pkl is not a pickle.")
    tensors = sum(name.startswith(f"{root}/data/") for name in names)
    return WeightsFacts(format="PyTorch", tensors=tensors)


def read_members(source: ByteSource) -> list[TorchZipEntry]:
    """Return the members of an uncompressed archive. Raises as `read_torch`."""
    members, start = _read_table(source)
    # Before the check for compression, because TorchScript compresses its code.
    _refuse_script(members)
    _refuse_folder(members)
    # PyTorch does not compress tensors. Compressed members could expand to any size.
    if not all(member.is_plain for member in members):
        raise FormatError("A member is compressed, or has a wrong size.")
    if sum(member.size for member in members) > start:
        raise FormatError("The archive’s directory does not match its members.")
    return members


def content_start(source: ByteSource, member: TorchZipEntry) -> int:
    """Return the offset of a member's bytes. Raises FormatError."""
    head = source.at(member.offset, 30)
    name_length, extra_length = struct.unpack("<HH", head[26:30])
    if head[:4] != _LOCAL:
        raise FormatError("A member is not at its offset in the directory.")
    start: int = member.offset + 30 + name_length + extra_length
    source.check(start, member.size)
    return start


def _refuse_script(members: list[TorchZipEntry]) -> None:
    root = members[0].name.partition("/")[0]
    inside = {member.name.removeprefix(f"{root}/") for member in members}
    has_code = "constants.pkl" in inside or any(name.startswith("code/") for name in inside)
    if has_code and "data.pkl" in inside:
        text = "This is TorchScript, which contains code. Upload the checkpoint or its state dict instead."
        raise Refused(text, code="code")


def _refuse_folder(members: list[TorchZipEntry]) -> None:
    names = [member.name.rpartition("/")[2] for member in members]
    if "data.pkl" not in names and any(name.endswith(_WEIGHTS) for name in names):
        text = (
            "This is an archive of a model’s folder. Upload only the weights in it, such as "
            "model.safetensors, together with the text of its config.json and the keys of its "
            "preprocessor_config.json."
        )
        raise Refused(text, code="archive")


def _read_table(source: ByteSource) -> tuple[list[TorchZipEntry], int]:
    """Return the unchecked entries of the archive's directory, and its offset."""
    count, start, end = _find_table(source)
    if not 1 <= count <= MOST_MEMBERS or end - start > MOST_TABLE_BYTES:
        raise FormatError(f"The archive has no members, or more than {MOST_MEMBERS:,}.")
    table = source.at(start, end - start)
    members, position = [], 0
    for _ in range(count):
        source.count_part(_MEMBER_WEIGHT)
        member, position = _read_member(source, table, position, start)
        members.append(member)
    if position != len(table):
        raise FormatError("The archive’s directory does not match its members.")
    return members, start


def _find_table(source: ByteSource) -> tuple[int, int, int]:
    """Return the count of members, and the start and end of the archive's directory."""
    if source.at(0, 4) != _LOCAL:
        raise FormatError("It is not a ZIP archive.")
    last = source.size - 22
    if last < 0 or (source.at(last, 4) != _END and not _ends_before(source, last)):
        raise CutShortError("The archive is incomplete: its end is missing.")
    mark, disk, first, here, count, length, start, comment = struct.unpack("<4sHHHHIIH", source.at(last, 22))
    if mark != _END or comment or disk or first or here != count:
        raise FormatError("The archive has an invalid end record.")
    end = last
    if last >= 20 and source.at(last - 20, 4) == _LOCATOR:
        _, _, end, _ = struct.unpack("<4sIQI", source.at(last - 20, 20))
        if end + 56 != last - 20:
            raise FormatError("The archive’s directory is not at its stated offset.")
        mark, _, _, _, _, _, _, count, length, start = struct.unpack("<4sQHHIIQQQQ", source.at(end, 56))
        if mark != _END64:
            raise FormatError("The archive’s directory is not at its stated offset.")
    if start + length != end:
        raise FormatError("The archive’s directory is not at its stated offset.")
    return count, start, end


def _ends_before(source: ByteSource, last: int) -> bool:
    """Return whether an archive ends before this offset, with other data after it."""
    first = max(0, last - _MOST_COMMENT)
    return _END in source.at(first, last - first + len(_END) - 1)


def _read_member(source: ByteSource, table: bytes, at: int, end: int) -> tuple[TorchZipEntry, int]:
    """Return the directory entry at an offset, and the offset of the next one."""
    if len(table) < at + 46 or table[at : at + 4] != _ENTRY:
        raise FormatError("The archive’s directory is damaged.")
    flags, method = struct.unpack("<HH", table[at + 8 : at + 12])
    packed, size, name_length, extra, comment = struct.unpack("<IIHHH", table[at + 20 : at + 34])
    offset = struct.unpack("<I", table[at + 42 : at + 46])[0]
    name_end = at + 46 + name_length
    size, packed, offset = _widen(source, table[name_end : name_end + extra], size, packed, offset)
    is_plain = method == _STORED and not flags & _ENCRYPTED and packed == size and offset + 30 + size <= end
    try:
        name = table[at + 46 : name_end].decode()
    except UnicodeDecodeError as error:
        raise FormatError("The name of a member is not UTF-8.") from error
    return TorchZipEntry(name, size, offset, is_plain), name_end + extra + comment


def _widen(source: ByteSource, extra: bytes, *numbers: int) -> tuple[int, ...]:
    """Return the numbers, with those of 64 bits from the ZIP64 extra field."""
    wide: list[int] = []
    position = 0
    while position + 4 <= len(extra):
        source.count_part()
        kind, length = struct.unpack("<HH", extra[position : position + 4])
        if kind == 1:
            body = extra[position + 4 : position + 4 + length]
            wide = list(struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8]))
        position += 4 + length
    result = []
    for number in numbers:
        if number == 0xFFFFFFFF:
            if not wide:
                raise FormatError("A member has no 64-bit size.")
            number = wide.pop(0)
        result.append(number)
    return tuple(result)


def _content(source: ByteSource, member: TorchZipEntry, most: int) -> bytes:
    return source.at(content_start(source, member), min(most, member.size))
