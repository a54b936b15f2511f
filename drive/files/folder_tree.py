"""Folders for results: hold the output folder, and create missing subfolders."""

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
    """Return `folder`, locked against trashing; if it has been trashed, a new one at the top of the drive.

    The limit on folders does not apply to the new one, so that results are never lost.

    Args:
        name: name of the new folder; a taken name gets a number.
    """
    if folder is not None:
        # Checked under a lock: a request that trashes it waits for this transaction, then includes its files.
        with suppress(NotFound):
            hold(folder)
            return folder
    here = Folder.objects.filter(owner=owner_id, parent=None).live()
    return first_free(
        name, here, lambda free: Folder.objects.create(owner_id=owner_id, parent=None, name=free)
    )


def make_folders(root: Folder, paths: Collection[str]) -> dict[str, Folder]:
    """Return the folders at `paths` below `root`; create missing ones.

    Call it in a transaction that has locked the owner's tree, so that no folder is trashed meanwhile. One
    query for each level, and one more for the folders that are created on it.
    """
    found = {"": root}
    wanted = {path[:end] for path in paths for end in _ends(path)}
    for level in range(1, 1 + max((len(path.split("/")) for path in wanted), default=0)):
        _make_level(found, sorted(path for path in wanted if path.count("/") == level - 1))
    return {path: found[path] for path in paths}


def _ends(path: str) -> list[int]:
    """Return the end of each folder's name in a path: «a/b» gives 1 and 3."""
    return [*(index for index, letter in enumerate(path) if letter == "/"), len(path)] if path else []


def _make_level(found: dict[str, Folder], paths: Sequence[str]) -> None:
    for _attempt in range(ATTEMPTS):
        _find_level(found, paths)
        missing = [_new(found, path) for path in paths if path not in found]
        if not missing:
            return
        try:
            with transaction.atomic():
                Folder.objects.bulk_create(missing)
        except IntegrityError:
            # The owner has just created one of them.
            continue
    _find_level(found, paths)
    if not found.keys() >= set(paths):
        raise Conflict(
            _("Something was added there at the same moment. Please try again."), code="name_taken"
        )


def _find_level(found: dict[str, Folder], paths: Sequence[str]) -> None:
    parents = {found[_above(path)].pk: _above(path) for path in paths}
    names = {path.rpartition("/")[2] for path in paths}
    for folder in Folder.objects.filter(parent__in=parents, name__in=names).live():
        above = parents[folder.parent_id] if folder.parent_id else ""
        found[f"{above}/{folder.name}" if above else folder.name] = folder


def _new(found: dict[str, Folder], path: str) -> Folder:
    parent = found[_above(path)]
    return Folder(owner_id=parent.owner_id, parent=parent, name=path.rpartition("/")[2])


def _above(path: str) -> str:
    return path.rpartition("/")[0]
