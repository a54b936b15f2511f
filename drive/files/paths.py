"""Relative paths of uploaded files, as browsers send them for a dropped folder."""

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

# Limit of the database column.
MAX_LENGTH = 2000
_ABSOLUTE = re.compile(r"^(/|[A-Za-z]:/)")


@dataclass(frozen=True)
class UploadPath:
    """Destination of a file: folders below the target folder, outermost first, and the name."""

    folders: tuple[str, ...]
    name: str

    @property
    def path(self) -> str:
        return "/".join(self.folders)


def clean_path(raw: str) -> UploadPath:
    """Parse a file's path below a folder, file name last ("holiday/day 1/sea.jpg").

    Invalid names are repaired as those of uploads are.

    Raises:
        Invalid: the path is absolute, has a `..`, is nested too deeply, or is too long.
    """
    path = raw.replace("\\", "/")
    parts = [part for part in path.split("/") if part.strip() not in {"", "."}]
    if _ABSOLUTE.match(path) or any(part.strip() == ".." for part in parts):
        raise Invalid(
            _("This path points outside the folder. Use a relative path without “..”."), code="bad_path"
        )
    names = [upload_name(part, "") for part in parts] or [upload_name("", "")]
    place = UploadPath(tuple(names[:-1]), names[-1])
    if len(place.folders) > MAX_DEPTH:
        raise too_deep()
    if len(place.path) > MAX_LENGTH:
        raise Invalid(_("This path is too long. Use shorter folder names."), code="bad_path")
    return place


def folder_at(*, owner: User, folder: Folder | None, names: Iterable[str]) -> Folder | None:
    """Return the folder at the path `names` below `folder`; create missing folders.

    Raises:
        Invalid: the folders would be nested too deeply, or there would be too many.
        NotFound: `folder` has been trashed.
        Conflict: another request creates the same folder at the same time.
    """
    wanted = tuple(names)
    if (existing := _at(owner, folder, wanted)) is not None:
        return existing
    found, missing = walk(owner, folder, wanted)
    if not missing:
        return found
    with naming():
        # Files of one dropped folder arrive concurrently, and each would create the same folders.
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
    """Return the folder at the path `names`, in one query; None if one is missing."""
    if len(names) < 2:
        return None
    conditions: dict[str, object] = {"owner": owner, "name": names[-1]}
    above = "parent"
    for name in reversed(names[:-1]):
        conditions[f"{above}__name"] = name
        above += "__parent"
    conditions[above] = folder
    # Subfolders are trashed with their folder, so it is enough to check the last one.
    return Folder.objects.filter(**conditions).live().first()


def walk(owner: User, folder: Folder | None, names: tuple[str, ...]) -> tuple[Folder | None, tuple[str, ...]]:
    """Follow the path `names` as far as it exists; return the last folder and the remaining names."""
    for number, name in enumerate(names):
        child = Folder.objects.filter(owner=owner, parent=folder, name=name).live().first()
        if child is None:
            return folder, names[number:]
        folder = child
    return folder, ()


def find_clashes(*, owner: User, folder: Folder | None, paths: Iterable[str]) -> list[str]:
    """Return those of `paths` at which a file exists. Two queries for any number of paths."""
    places: dict[str, UploadPath] = {}
    for raw in paths:
        try:
            places[raw] = clean_path(raw)
        except Invalid:
            # The upload itself reports it.
            continue
    folder_ids = _folder_ids(owner, folder)
    wanted = {place.folders for place in places.values()} & folder_ids.keys()
    names = {place.name for place in places.values()}
    here = File.objects.filter(owner=owner, name__in=names).live()
    keys = {folder_ids[path] for path in wanted}
    taken = {row for row in here.values_list("folder_id", "name") if row[0] in keys}
    return [
        raw
        for raw, p in places.items()
        if p.folders in folder_ids and (folder_ids[p.folders], p.name) in taken
    ]


def _folder_ids(owner: User, folder: Folder | None) -> Mapping[tuple[str, ...], UUID | None]:
    """Return the ids of the folders below `folder` by their relative path; () is `folder` itself."""
    children: dict[UUID | None, list[tuple[UUID, str]]] = {}
    for key, parent, name in Folder.objects.filter(owner=owner).live().values_list("pk", "parent_id", "name"):
        children.setdefault(parent, []).append((key, name))
    folder_ids: dict[tuple[str, ...], UUID | None] = {(): folder.pk if folder else None}
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        path = waiting.pop()
        for key, name in children.get(folder_ids[path], ()):
            folder_ids[(*path, name)] = key
            waiting.append((*path, name))
    return folder_ids
