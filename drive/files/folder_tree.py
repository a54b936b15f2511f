"""Folders for results: one that is still there, and those below it, made where they are missing."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from drive.files.placement import first_free, hold
from drive.models import Folder
from ipau.common.errors import Conflict, NotFound

# Retries when the owner creates the same folder at the same time.
ATTEMPTS = 5


def hold_or_replace(folder: Folder | None, *, owner_id: UUID, name: str) -> Folder:
    """Return `folder`, held in this transaction; if it has been trashed, a new one at the top of the drive.

    A limit on folders does not apply to the new one: what a worker puts there must be seen.

    Args:
        name: of the new one; a taken name gets a number.
    """
    if folder is not None:
        # Checked under a lock: whoever trashes it now waits for this transaction and takes its files along.
        with suppress(NotFound):
            hold(folder)
            return folder
    here = Folder.objects.filter(owner=owner_id, parent=None).live()
    return first_free(
        name, here, lambda free: Folder.objects.create(owner_id=owner_id, parent=None, name=free)
    )


def make_folders(root: Folder, ways: Collection[str]) -> dict[str, Folder]:
    """Return the folders to which `ways` lead from `root`, making those that are missing.

    Call it in a transaction that has locked the owner's tree, so that nobody trashes any of them meanwhile.
    One query for each level, and one more for the folders that are made on it.
    """
    found = {"": root}
    wanted = {way[:end] for way in ways for end in _ends(way)}
    for level in range(1, 1 + max((len(way.split("/")) for way in wanted), default=0)):
        _make_level(found, sorted(way for way in wanted if way.count("/") == level - 1))
    return {way: found[way] for way in ways}


def _ends(way: str) -> list[int]:
    """Return where each folder of a way ends: «a/b» gives 1 and 3."""
    return [*(index for index, letter in enumerate(way) if letter == "/"), len(way)] if way else []


def _make_level(found: dict[str, Folder], ways: Sequence[str]) -> None:
    for _attempt in range(ATTEMPTS):
        _find_level(found, ways)
        missing = [_new(found, way) for way in ways if way not in found]
        if not missing:
            return
        try:
            with transaction.atomic():
                Folder.objects.bulk_create(missing)
        except IntegrityError:
            # The owner has just made one of them.
            continue
    _find_level(found, ways)
    if not found.keys() >= set(ways):
        raise Conflict(
            _("Something was added there at the same moment. Please try again."), code="name_taken"
        )


def _find_level(found: dict[str, Folder], ways: Sequence[str]) -> None:
    parents = {found[_above(way)].pk: _above(way) for way in ways}
    names = {way.rpartition("/")[2] for way in ways}
    for folder in Folder.objects.filter(parent__in=parents, name__in=names).live():
        above = parents[folder.parent_id] if folder.parent_id else ""
        found[f"{above}/{folder.name}" if above else folder.name] = folder


def _new(found: dict[str, Folder], way: str) -> Folder:
    parent = found[_above(way)]
    return Folder(owner_id=parent.owner_id, parent=parent, name=way.rpartition("/")[2])


def _above(way: str) -> str:
    return way.rpartition("/")[0]
