"""Paths that browsers send with the files of a dropped folder."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.names import upload_name
from drive.files.placement import hold, lock_tree, naming
from drive.files.quota import check_folders
from drive.files.services import MAX_DEPTH, ancestors_of, too_deep
from drive.models import File, Folder
from ipau.common.errors import Invalid

# What the database keeps of a path.
MAX_LENGTH = 2000
_ABSOLUTE = re.compile(r"^(/|[A-Za-z]:/)")


@dataclass(frozen=True)
class UploadPath:
    """Where a file goes: folders below the one that was chosen, the outermost first, and its name."""

    folders: tuple[str, ...]
    name: str

    @property
    def path(self) -> str:
        return "/".join(self.folders)


def clean_path(raw: str) -> UploadPath:
    """Read a file's path below a folder, its own name last, as browsers tell it ("holiday/day 1/sea.jpg").

    Names in it are mended as those of uploads are; a way out of the folder is refused.

    Raises:
        Invalid: it is absolute, has a `..`, goes too deep, or is too long.
    """
    path = raw.replace("\\", "/")
    parts = [part for part in path.split("/") if part.strip() not in {"", "."}]
    if _ABSOLUTE.match(path) or any(part.strip() == ".." for part in parts):
        raise Invalid(_("This path leads out of the folder."), code="bad_path")
    names = [upload_name(part, "") for part in parts] or [upload_name("", "")]
    place = UploadPath(tuple(names[:-1]), names[-1])
    if len(place.folders) > MAX_DEPTH:
        raise too_deep()
    if len(place.path) > MAX_LENGTH:
        raise Invalid(_("This path is too long."), code="bad_path")
    return place


def folder_at(*, owner: User, folder: Folder | None, names: Iterable[str]) -> Folder | None:
    """Return the folder to which `names` lead from `folder`, making those that are missing.

    Raises:
        Invalid: they would be nested too deeply, or there would be too many.
        NotFound: `folder` has been trashed.
        Conflict: somebody makes the same folder at this moment.
    """
    wanted = tuple(names)
    if (there := _at(owner, folder, wanted)) is not None:
        return there
    found, missing = walk(owner, folder, wanted)
    if not missing:
        return found
    with naming():
        # Files of one dropped tree come several at a time, and each would make the same folders.
        lock_tree(owner)
        hold(folder)
        found, missing = walk(owner, folder, wanted)
        if len(ancestors_of(found)) + len(missing) > MAX_DEPTH:
            raise too_deep()
        for name in missing:
            check_folders(owner=owner)
            found = Folder.objects.create(owner=owner, parent=found, name=name)
    return found


def _at(owner: User, folder: Folder | None, names: tuple[str, ...]) -> Folder | None:
    """Return the folder to which all of `names` lead, in one query; None where one of them is missing."""
    if len(names) < 2:
        return None
    conditions: dict[str, object] = {"owner": owner, "name": names[-1]}
    above = "parent"
    for name in reversed(names[:-1]):
        conditions[f"{above}__name"] = name
        above += "__parent"
    conditions[above] = folder
    # What lies in a trashed folder has been trashed with it, so the last one tells for all.
    return Folder.objects.filter(**conditions).live().first()


def walk(owner: User, folder: Folder | None, names: tuple[str, ...]) -> tuple[Folder | None, tuple[str, ...]]:
    """Follow `names` as far as there are such folders; return the last one and the names that are left."""
    for number, name in enumerate(names):
        child = Folder.objects.filter(owner=owner, parent=folder, name=name).live().first()
        if child is None:
            return folder, names[number:]
        folder = child
    return folder, ()


def find_clashes(*, owner: User, folder: Folder | None, paths: Iterable[str]) -> list[str]:
    """Return those of `paths` at which there is a file already. Two queries, however many they are."""
    places: dict[str, UploadPath] = {}
    for raw in paths:
        try:
            places[raw] = clean_path(raw)
        except Invalid:
            # The upload itself will say so.
            continue
    homes = _homes(owner, folder)
    wanted = {place.folders for place in places.values()} & homes.keys()
    names = {place.name for place in places.values()}
    here = File.objects.filter(owner=owner, name__in=names).live()
    keys = {homes[way] for way in wanted}
    taken = {row for row in here.values_list("folder_id", "name") if row[0] in keys}
    return [raw for raw, p in places.items() if p.folders in homes and (homes[p.folders], p.name) in taken]


def _homes(owner: User, folder: Folder | None) -> Mapping[tuple[str, ...], UUID | None]:
    """Return the folders below `folder` by the names that lead to them; () is itself."""
    children: dict[UUID | None, list[tuple[UUID, str]]] = {}
    for key, parent, name in Folder.objects.filter(owner=owner).live().values_list("pk", "parent_id", "name"):
        children.setdefault(parent, []).append((key, name))
    homes: dict[tuple[str, ...], UUID | None] = {(): folder.pk if folder else None}
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        way = waiting.pop()
        for key, name in children.get(homes[way], ()):
            homes[(*way, name)] = key
            waiting.append((*way, name))
    return homes
