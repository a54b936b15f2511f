"""Stars, and taking a move back."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils.translation import gettext as _

from accounts.models import User
from drive import services
from drive.models import File, Folder
from drive.services import Selection
from ipau.common.errors import Invalid

TOP = ""


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


def _home(homes: dict[str, dict[str, list[str]]], key: UUID | None) -> dict[str, list[str]]:
    return homes.setdefault(str(key) if key else TOP, {"folders": [], "files": []})


@transaction.atomic
def move_back(*, owner: User, homes: Mapping[str, Mapping[str, Sequence[str]]]) -> int:
    """Move things to where `homes_of` found them, or nothing of it; return how many. Raises as `move`."""
    moved = 0
    for key, ids in homes.items():
        home = services.get_folder(owner=owner, folder_id=key) if key != TOP else None
        chosen = services.select(owner=owner, folder_ids=ids["folders"], file_ids=ids["files"])
        moved += services.move(owner=owner, chosen=chosen, destination=home)
    return moved


def branches(*, owner: User, parents: Sequence[UUID | None]) -> dict[UUID | None, list[Any]]:
    """Return the folders in each of `parents` by name, each saying whether it `has_more` below it."""
    live = Folder.objects.visible_to(owner).live()
    below = live.filter(parent=OuterRef("pk"))
    rows = live.filter(parent__in=[key for key in parents if key])
    if None in parents:
        rows = rows | live.filter(parent__isnull=True)
    found: dict[UUID | None, list[Any]] = {}
    for folder in rows.annotate(has_more=Exists(below)).order_by("name", "id")[:MOST_BRANCHES]:
        found.setdefault(folder.parent_id, []).append(folder)
    return found


# The tree beside a listing shows this many folders at most; the listing has them all.
MOST_BRANCHES = 500
