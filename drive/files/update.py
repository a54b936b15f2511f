"""Change files and folders: rename, move and star in one transaction, and undo moves."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files import services
from drive.files.services import Selection
from drive.models import File, Folder
from ipau.common.errors import Invalid

UNCHANGED: Any = object()
# The top of the drive, as a key of what `folders_of` returns.
TOP = ""


@transaction.atomic
def change_file(
    *,
    owner: User,
    file_id: object,
    name: str = UNCHANGED,
    folder: Folder | None = UNCHANGED,
    starred: bool = UNCHANGED,
) -> File:
    """Rename, move or star a file, all or nothing. Omitted values do not change.

    If only the folder changes, a taken name gets a number.

    Args:
        folder: destination; None: the top of the drive.

    Raises: as `services.rename_file` and `services.move`.
    """
    chosen = Selection((), (services.get_file(owner=owner, file_id=file_id),))
    if folder is not UNCHANGED:
        services.move(owner=owner, chosen=chosen, destination=folder)
    if name is not UNCHANGED:
        services.rename_file(owner=owner, file_id=file_id, name=name)
    if starred is not UNCHANGED:
        star_files(owner=owner, chosen=chosen, on=starred)
    return services.get_file(owner=owner, file_id=file_id)


@transaction.atomic
def change_folder(
    *, owner: User, folder_id: object, name: str = UNCHANGED, parent: Folder | None = UNCHANGED
) -> Folder:
    """Rename or move a folder, all or nothing, as `change_file`. Omitted values do not change.

    Raises: as `services.rename_folder` and `services.move`.
    """
    chosen = Selection((services.get_folder(owner=owner, folder_id=folder_id),), ())
    if parent is not UNCHANGED:
        services.move(owner=owner, chosen=chosen, destination=parent)
    if name is not UNCHANGED:
        services.rename_folder(owner=owner, folder_id=folder_id, name=name)
    return services.get_folder(owner=owner, folder_id=folder_id)


def star_files(*, owner: User, chosen: Selection, on: bool | None = None) -> bool:
    """Star or unstar the selected files; return True if they are starred now.

    Args:
        on: None toggles: it removes the stars if all files have one, and otherwise adds them.

    Raises:
        Invalid: only folders were selected.
    """
    if not chosen.files:
        raise Invalid(_("Only files can be starred."), code="no_file")
    if on is None:
        on = not all(file.starred for file in chosen.files)
    keys = [file.pk for file in chosen.files]
    File.objects.filter(owner=owner, pk__in=keys).exclude(starred=on).update(starred=on)
    return on


def folders_of(chosen: Selection) -> dict[str, dict[str, list[str]]]:
    """Return the current folder of each selected item, as JSON for the session and `move_back`."""
    folders: dict[str, dict[str, list[str]]] = {}
    for folder in chosen.folders:
        _items_in(folders, folder.parent_id)["folders"].append(str(folder.pk))
    for file in chosen.files:
        _items_in(folders, file.folder_id)["files"].append(str(file.pk))
    return folders


@transaction.atomic
def move_back(*, owner: User, folders: Mapping[str, Mapping[str, Sequence[str]]]) -> int:
    """Move items back to the folders that `folders_of` returned, all or none; return the number moved.

    Raises: as `services.move`.
    """
    moved = 0
    for key, ids in folders.items():
        folder = services.get_folder(owner=owner, folder_id=key) if key != TOP else None
        chosen = services.select(owner=owner, folder_ids=ids["folders"], file_ids=ids["files"])
        moved += services.move(owner=owner, chosen=chosen, destination=folder)
    return moved


def _items_in(folders: dict[str, dict[str, list[str]]], key: UUID | None) -> dict[str, list[str]]:
    return folders.setdefault(str(key) if key else TOP, {"folders": [], "files": []})
