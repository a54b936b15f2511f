"""Where files lie: their ways through the folders, as text."""

from collections.abc import Iterable
from uuid import UUID

from accounts.models import User
from drive.models import File, Folder


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
