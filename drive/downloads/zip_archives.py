"""Streaming zip archives of files and folders, without compression: images are compressed already."""

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
# The central directory of an archive is kept in memory until the end.
MOST_MEMBERS = 100_000
# Characters that some systems treat as paths, streams or wildcards.
_UNSAFE = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICES = frozenset({"con", "prn", "aux", "nul"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10)})

Source = Callable[["ZipEntry"], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A file in an archive, or a folder if `sha256` is empty. `path` is safe and unique."""

    path: str
    sha256: str = ""
    size: int = 0
    content_type: str = ""
    kind: str = ""
    at: datetime | None = None


class LostBytesError(OSError):
    """The storage has fewer or more bytes than recorded, so the archive is incomplete."""


def members_of(*, owner: User, chosen: Selection) -> list[ZipEntry]:
    """Return the selection with the contents of its folders, folders before their contents. Three queries.

    Raises:
        Invalid: more than `MOST_MEMBERS`.
    """
    tree = Tree.of(owner.pk)
    selected = {folder.pk for folder in chosen.folders}
    # A folder inside another selected one is part of that.
    tops = {key for key in selected if not selected.intersection(tree.lineage(key)[1:])}
    inside = tree.descendants(tops)
    folders = Folder.objects.filter(pk__in=inside).values_list("pk", "parent_id", "name")
    loose = [file.pk for file in chosen.files if file.folder_id not in inside]
    rows = File.objects.visible_to(owner).live()
    rows = rows.filter(folder__in=inside) | rows.filter(pk__in=loose)
    found = list(rows.order_by("name", "id")[: MOST_MEMBERS + 1])
    if len(found) + len(inside) > MOST_MEMBERS:
        text = _("An archive can contain up to %(most)d files and folders. Select fewer.")
        raise Invalid(text % {"most": MOST_MEMBERS}, code="too_many_files")
    return _assign_paths(sorted(folders, key=lambda row: row[2]), tops, found)


def _assign_paths(
    folders: Iterable[tuple[UUID, UUID | None, str]], tops: set[UUID], files: Iterable[File]
) -> list[ZipEntry]:
    """Assign each folder and file its path in the archive, top down."""
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
    """Unique names in one folder of an archive, ignoring case: some systems do."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def take(self, raw: str) -> str:
        """Return a safe name that is unique in this folder."""
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
    """Return a name that every system can unpack, and none treats as a path."""
    name = _UNSAFE.sub("_", raw).rstrip(". ") or "_"
    if PurePosixPath(name).name.split(".")[0].strip().lower() in _DEVICES:
        name = f"_{name}"
    return name


def stored_bytes(member: ZipEntry) -> Iterator[bytes]:
    """Yield a member's bytes as they are stored.

    Raises:
        LostBytesError: the bytes are missing or have the wrong length.
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
    """Lazy iterable over the bytes of one member."""

    def __init__(self, member: ZipEntry, source: Source):
        self._member, self._source = member, source

    def __iter__(self) -> Iterator[bytes]:
        return self._source(self._member)


def archive(members: Iterable[ZipEntry], source: Source = stored_bytes, *, sized: bool = True) -> Any:
    """Return an iterable of the archive's bytes.

    Args:
        sized: support `len()`, the size of the archive in bytes. Requires the exact size of each member.
    """
    stream = zipstream.ZipStream(sized=sized)
    for member in members:
        if not member.sha256:
            stream.mkdir(member.path)
        else:
            stream.add(_Bytes(member, source), member.path, size=member.size if sized else None)
    return stream


def archive_name(chosen: Selection) -> str:
    """Return the file name for the archive of a selection."""
    only = chosen.folders[0].name if len(chosen.folders) == 1 and not chosen.files else _("Drive")
    return f"{only}.zip"
