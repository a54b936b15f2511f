"""In-memory tree of an owner's live folders, and paths of files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from uuid import UUID

from accounts.models import User
from drive.models import File, Folder


class Tree:
    """Parents and children of folders, from one query."""

    def __init__(self, parents: Mapping[UUID, UUID | None]):
        self._parents = parents
        self._children: dict[UUID | None, list[UUID]] = defaultdict(list)
        for folder, parent in parents.items():
            self._children[parent].append(folder)

    @classmethod
    def of(cls, owner_id: UUID) -> Tree:
        rows = Folder.objects.filter(owner=owner_id).live().values_list("pk", "parent_id")
        return cls(dict(rows))

    def lineage(self, folder: UUID | None) -> list[UUID]:
        """Return the folder and its ancestors, the topmost last."""
        lineage: list[UUID] = []
        while folder is not None and folder not in lineage:
            lineage.append(folder)
            folder = self._parents.get(folder)
        return lineage

    def descendants(self, roots: Iterable[UUID]) -> set[UUID]:
        """Return the roots and all folders below them."""
        found: set[UUID] = set()
        waiting = list(roots)
        while waiting:
            folder = waiting.pop()
            if folder not in found:
                found.add(folder)
                waiting.extend(self._children.get(folder, ()))
        return found

    def height(self, root: UUID) -> int:
        """Return the number of folder levels below and including `root`."""
        level, height = [root], 0
        while level:
            level = [child for folder in level for child in self._children.get(folder, ())]
            height += 1
        return height


def paths_of(*, owner: User, files: Iterable[File]) -> dict[UUID, str]:
    """Return each file's path from the top of the drive: «Summer/Beach/sea.jpg».

    One query for any number of files. Names contain no slash, so paths are unambiguous.
    """
    rows = Folder.objects.visible_to(owner).live().values_list("pk", "parent_id", "name")
    known = {pk: (parent, name) for pk, parent, name in rows}
    paths: dict[UUID | None, str] = {None: ""}

    def path_to(folder: UUID | None) -> str:
        if folder not in paths:
            parent, name = known.get(folder, (None, "")) if folder else (None, "")
            paths[folder] = f"{path_to(parent)}{name}/" if name else ""
        return paths[folder]

    return {file.pk: path_to(file.folder_id) + file.name for file in files}
