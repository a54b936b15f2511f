"""Zip archives that are made while they are sent: stored, not packed, because pictures are packed already."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import zipstream  # type: ignore[import-untyped]  # has no types
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.names import fit
from drive.files.services import Selection
from drive.files.tree import Tree
from drive.models import File, Folder
from drive.storage import blobs
from ipau.common.errors import Invalid

CHUNK = 256 * 1024
# The table at the end of an archive is kept in memory until then.
MOST_MEMBERS = 100_000
# What some system takes for a path, a stream or a wildcard.
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICES = frozenset({"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)})

Source = Callable[["ZipEntry"], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A file in an archive or, where `sha256` is empty, a folder. `path` is safe and unique there."""

    path: str
    sha256: str = ""
    size: int = 0
    content_type: str = ""
    kind: str = ""
    at: datetime | None = None


class LostBytesError(OSError):
    """The storage has fewer or more bytes than it should; what was sent so far is no archive."""


def members_of(*, owner: User, chosen: Selection) -> list[ZipEntry]:
    """Return what was chosen and all that lies in it, folders before what they hold.

    Three queries, however much it is.

    Raises:
        Invalid: more than an archive takes.
    """
    tree = Tree.of(owner.pk)
    asked = {folder.pk for folder in chosen.folders}
    # A folder inside another chosen one comes with that.
    tops = {key for key in asked if not asked.intersection(tree.way_to(key)[1:])}
    inside = tree.inside(tops)
    folders = Folder.objects.filter(pk__in=inside).values_list("pk", "parent_id", "name")
    loose = [file.pk for file in chosen.files if file.folder_id not in inside]
    rows = File.objects.visible_to(owner).live()
    rows = rows.filter(folder__in=inside) | rows.filter(pk__in=loose)
    found = list(rows.order_by("name", "id")[: MOST_MEMBERS + 1])
    if len(found) + len(inside) > MOST_MEMBERS:
        text = _("An archive holds %(most)d files and folders at most. Choose fewer.")
        raise Invalid(text % {"most": MOST_MEMBERS}, code="too_many_files")
    return _laid_out(sorted(folders, key=lambda row: row[2]), tops, found)


def _laid_out(
    folders: Iterable[tuple[UUID, UUID | None, str]], tops: set[UUID], files: Iterable[File]
) -> list[ZipEntry]:
    """Give every folder and file its path, from the top down."""
    below: dict[UUID | None, list[tuple[UUID, str]]] = defaultdict(list)
    for key, parent, name in folders:
        below[None if key in tops else parent].append((key, name))
    paths: dict[UUID | None, str] = {None: ""}
    taken: dict[UUID | None, _FolderNames] = defaultdict(_FolderNames)
    members = []
    waiting: list[UUID | None] = [None]
    while waiting:
        here = waiting.pop()
        for key, name in below[here]:
            paths[key] = f"{paths[here]}{taken[here].take(name)}/"
            members.append(ZipEntry(paths[key]))
            waiting.append(key)
    for file in files:
        home = file.folder_id if file.folder_id in paths else None
        path = paths[home] + taken[home].take(file.name)
        at = file.created_at
        members.append(ZipEntry(path, file.blob_id, file.size, file.content_type, file.kind, at))
    return members


class _FolderNames:
    """The names in one folder of an archive. Systems that do not tell capitals apart unpack it too."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def take(self, raw: str) -> str:
        """Return a safe name that nothing else here has."""
        name = safe_name(raw)
        number = self._numbers.get(name.casefold(), 0) + 1
        free = name if number == 1 else fit(name, f" ({number})")
        while free.casefold() in self._taken:
            number += 1
            free = fit(name, f" ({number})")
        self._numbers[name.casefold()] = number
        self._taken.add(free.casefold())
        return free


def safe_name(raw: str) -> str:
    """Return a name that every system can unpack, and none takes for a place elsewhere."""
    name = _UNSAFE.sub("_", raw).rstrip(". ") or "_"
    if PurePosixPath(name).name.split(".")[0].strip().lower() in _DEVICES:
        name = f"_{name}"
    return name


def stored_bytes(member: ZipEntry) -> Iterator[bytes]:
    """Yield a member's bytes as they are stored.

    Raises:
        LostBytesError: they are not there, or not all.
    """
    left = member.size
    try:
        with blobs.open_bytes(member.sha256) as content:
            while piece := content.read(CHUNK):
                left -= len(piece)
                yield piece
    except FileNotFoundError as error:
        raise LostBytesError(f"The bytes of blob {member.sha256} are missing") from error
    if left:
        raise LostBytesError(f"Blob {member.sha256} is not {member.size} bytes long")


class _Bytes:
    """The bytes of one member, opened when its turn comes."""

    def __init__(self, member: ZipEntry, source: Source):
        self._member, self._source = member, source

    def __iter__(self) -> Iterator[bytes]:
        return self._source(self._member)


def archive(members: Iterable[ZipEntry], source: Source = stored_bytes, *, sized: bool = True) -> Any:
    """Return an iterable of the archive's bytes.

    Args:
        sized: `len()` of it shall tell how many bytes there will be; each member's size must be right then.
    """
    made = zipstream.ZipStream(sized=sized)
    for member in members:
        if not member.sha256:
            made.mkdir(member.path)
        else:
            made.add(_Bytes(member, source), member.path, size=member.size if sized else None)
    return made


def archive_name(chosen: Selection) -> str:
    """Return what the archive of a selection is called."""
    only = chosen.folders[0].name if len(chosen.folders) == 1 and not chosen.files else _("Drive")
    return f"{only}.zip"
