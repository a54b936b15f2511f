"""The shape of one owner's live folders, read once and asked often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from uuid import UUID

from accounts.models import User
from drive.models import File, Folder


class Tree:
    """Which folder lies in which. One query, however many folders are asked about."""

    def __init__(self, parents: Mapping[UUID, UUID | None]):
        self._parents = parents
        self._children: dict[UUID | None, list[UUID]] = defaultdict(list)
        for folder, parent in parents.items():
            self._children[parent].append(folder)

    @classmethod
    def of(cls, owner_id: UUID) -> Tree:
        rows = Folder.objects.filter(owner=owner_id).live().values_list("pk", "parent_id")
        return cls(dict(rows))

    def way_to(self, folder: UUID | None) -> list[UUID]:
        """Return the folder and all above it, the topmost last."""
        way: list[UUID] = []
        while folder is not None and folder not in way:
            way.append(folder)
            folder = self._parents.get(folder)
        return way

    def inside(self, roots: Iterable[UUID]) -> set[UUID]:
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
        """Return how many levels of folders hang on this one, itself included."""
        level, height = [root], 0
        while level:
            level = [child for folder in level for child in self._children.get(folder, ())]
            height += 1
        return height


def paths_of(*, owner: User, files: Iterable[File]) -> dict[UUID, str]:
    """Return each file's way from the top of the drive, its name included: «Summer/Beach/sea.jpg».

    One query, however many files and folders. Names hold no slash, so a way has one meaning.
    """
    rows = Folder.objects.visible_to(owner).live().values_list("pk", "parent_id", "name")
    known = {pk: (parent, name) for pk, parent, name in rows}
    ways: dict[UUID | None, str] = {None: ""}

    def way_to(folder: UUID | None) -> str:
        if folder not in ways:
            parent, name = known.get(folder, (None, "")) if folder else (None, "")
            ways[folder] = f"{way_to(parent)}{name}/" if name else ""
        return ways[folder]

    return {file.pk: way_to(file.folder_id) + file.name for file in files}
