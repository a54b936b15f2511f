"""Changing files and folders: one in several ways at once or in none, and many at once."""

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
# The key of the top of the drive in what `homes_of` returns.
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
    """Rename, move or star a file; what is not given stays. Where only its place changes, a name that is
    taken there gets a number.

    Args:
        folder: where it shall lie; None: at the top of the drive.

    Raises: as `services.rename_file` and `services.move`. Nothing is changed then.
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
    """Rename or move a folder; what is not given stays. As `change_file`, a taken name gets a number.

    Raises: as `services.rename_folder` and `services.move`. Nothing is changed then.
    """
    chosen = Selection((services.get_folder(owner=owner, folder_id=folder_id),), ())
    if parent is not UNCHANGED:
        services.move(owner=owner, chosen=chosen, destination=parent)
    if name is not UNCHANGED:
        services.rename_folder(owner=owner, folder_id=folder_id, name=name)
    return services.get_folder(owner=owner, folder_id=folder_id)


def star_files(*, owner: User, chosen: Selection, on: bool | None = None) -> bool:
    """Star the chosen files, or take their stars; None: take them where all have one. Returns which.

    Raises:
        Invalid: only folders were chosen.
    """
    if not chosen.files:
        raise Invalid(_("Only files can be starred."), code="no_file")
    if on is None:
        on = not all(file.starred for file in chosen.files)
    keys = [file.pk for file in chosen.files]
    File.objects.filter(owner=owner, pk__in=keys).exclude(starred=on).update(starred=on)
    return on


def homes_of(chosen: Selection) -> dict[str, dict[str, list[str]]]:
    """Return where each of the chosen lies, in a shape that a session can keep for `move_back`."""
    homes: dict[str, dict[str, list[str]]] = {}
    for folder in chosen.folders:
        _home(homes, folder.parent_id)["folders"].append(str(folder.pk))
    for file in chosen.files:
        _home(homes, file.folder_id)["files"].append(str(file.pk))
    return homes


@transaction.atomic
def move_back(*, owner: User, homes: Mapping[str, Mapping[str, Sequence[str]]]) -> int:
    """Move things to where `homes_of` found them, or nothing of it; return how many. Raises as `move`."""
    moved = 0
    for key, ids in homes.items():
        home = services.get_folder(owner=owner, folder_id=key) if key != TOP else None
        chosen = services.select(owner=owner, folder_ids=ids["folders"], file_ids=ids["files"])
        moved += services.move(owner=owner, chosen=chosen, destination=home)
    return moved


def _home(homes: dict[str, dict[str, list[str]]], key: UUID | None) -> dict[str, list[str]]:
    return homes.setdefault(str(key) if key else TOP, {"folders": [], "files": []})
