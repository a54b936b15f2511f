"""Trash: move items to the trash, restore them, and delete them permanently, also by the sweep."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.placement import lock_tree, names_of, naming, place
from drive.files.services import Selection
from drive.files.tree import Tree
from drive.models import File, Folder, Share
from ipau.common.errors import Invalid, NotFound
from ipau.common.ids import as_uuid

# A revoked link is kept this long, so that a repeated request does not create another one.
REVOKED_DAYS = 30
# Rows that one statement deletes; a folder may hold 100,000.
_CHUNK = 1000
# Values of a row that is not in the trash.
_BACK: dict[str, Any] = {"trashed_at": None, "trash_root": None}


@transaction.atomic
def trash(*, owner: User, chosen: Selection) -> datetime:
    """Move the selected items to the trash, folders with their contents.

    Returns:
        The `trashed_at` of all of them, for `restore_batch`.
    """
    lock_tree(owner)
    tree = Tree.of(owner.pk)
    now = timezone.now()
    for folder in chosen.folders:
        inside = tree.descendants([folder.pk])
        trashed = {"trashed_at": now, "trash_root": folder.pk}
        Folder.objects.filter(pk__in=inside).live().update(**trashed)
        File.objects.filter(folder__in=inside).live().update(**trashed)
    keys = [file.pk for file in chosen.files]
    File.objects.filter(pk__in=keys).live().update(trashed_at=now, trash_root=F("pk"))
    return now


def restore(*, owner: User, root_ids: Iterable[object]) -> int:
    """Restore items from the trash to their folders; return the number restored.

    If the folder of an item is gone, the item goes to the top of the drive. A taken name gets a number.

    Raises:
        NotFound: an item is not in the owner's trash, or was trashed as a part of its folder.
    """
    keys = {as_uuid(i) for i in root_ids}
    if not keys:
        raise Invalid(_("Nothing is selected."))
    with transaction.atomic():
        lock_tree(owner)
        # Latest first: an item trashed later may be the folder of one trashed earlier.
        roots = {"owner": owner, "pk__in": keys, "trash_root": F("pk")}
        folders = list(Folder.objects.filter(**roots).order_by("-trashed_at", "id"))
        files = list(File.objects.filter(**roots).order_by("-trashed_at", "id"))
        if len(folders) + len(files) != len(keys):
            raise NotFound(_("Some of these items are no longer in the trash."))
        with naming():
            _restore_folders(owner, folders)
            _restore_files(owner, files)
    return len(keys)


def restore_selected(
    *, owner: User, folder_ids: Iterable[object] = (), file_ids: Iterable[object] = ()
) -> int:
    """Restore folders and files from the trash; return the number restored. Raises as `restore`."""
    folders, files = ({as_uuid(i) for i in ids} for ids in (folder_ids, file_ids))
    _check_trashed(Folder, owner, folders)
    _check_trashed(File, owner, files)
    return restore(owner=owner, root_ids=folders | files)


def restore_batch(*, owner: User, trashed_at: datetime) -> int:
    """Undo the call of `trash` that returned `trashed_at`. Raises as `restore`."""
    batch = {"owner": owner, "trashed_at": trashed_at, "trash_root": F("pk")}
    folders = Folder.objects.filter(**batch).values_list("pk", flat=True)
    files = File.objects.filter(**batch).values_list("pk", flat=True)
    keys = [*folders, *files]
    if not keys:
        raise NotFound(_("These items are no longer in the trash."))
    return restore(owner=owner, root_ids=keys)


def roots_in_trash(*, owner: User, root_ids: Iterable[object]) -> list[UUID]:
    """Return the ids of selected items that were trashed individually.

    Raises:
        Invalid: no ids were passed.
        NotFound: an item is not in the owner's trash, or was trashed as a part of its folder.
    """
    keys = {as_uuid(i) for i in root_ids}
    if not keys:
        raise Invalid(_("Nothing is selected."))
    found = [key for key in _roots(owner) if key in keys]
    if len(found) != len(keys):
        raise NotFound(_("Some of these items are no longer in the trash."))
    return found


def count_trash(*, owner: User) -> int:
    """Return the number of items that the owner trashed individually."""
    return len(_roots(owner))


def delete_forever(*, owner: User, root_ids: Iterable[object]) -> int:
    """Permanently delete items from the trash; return the number deleted. Raises as `roots_in_trash`."""
    roots = roots_in_trash(owner=owner, root_ids=root_ids)
    _purge(owner, roots)
    return len(roots)


def empty_trash(*, owner: User) -> int:
    """Permanently delete the owner's trash; return the number of individually trashed items."""
    roots = _roots(owner)
    _purge(owner, roots)
    return len(roots)


def delete_file(*, owner: User, file_id: object) -> None:
    """Permanently delete a file, from its folder or from the trash.

    Raises:
        NotFound: no such file, or it was trashed as a part of its folder.
    """
    _delete(File, owner, as_uuid(file_id))


def delete_folder(*, owner: User, folder_id: object) -> None:
    """Permanently delete a folder with its contents. Raises as `delete_file`."""
    _delete(Folder, owner, as_uuid(folder_id))


def sweep_trash(*, owners: int = 100) -> int:
    """Delete items trashed more than `settings.TRASH_DAYS` ago; return the number of roots deleted."""
    before = timezone.now() - timedelta(days=settings.TRASH_DAYS)
    old = {"trash_root": F("pk"), "trashed_at__lt": before}
    keys = {*_owners(Folder.objects.filter(**old)), *_owners(File.objects.filter(**old))}
    swept = 0
    for owner in User.objects.filter(pk__in=keys)[:owners]:
        roots = _roots(owner, trashed_at__lt=before)
        _purge(owner, roots)
        swept += len(roots)
    return swept


def sweep_revoked_shares() -> int:
    """Delete links that were revoked `REVOKED_DAYS` ago; return the number deleted."""
    before = timezone.now() - timedelta(days=REVOKED_DAYS)
    return Share.objects.filter(revoked_at__lt=before).delete()[0]


def _restore_folders(owner: User, folders: list[Folder]) -> None:
    for folder in folders:
        parent = Folder.objects.filter(owner=owner, children=folder.pk).live().first()
        taken = names_of(Folder.objects.filter(owner=owner, parent=parent).live())
        place(Folder, [folder], taken, parent=parent, **_BACK)
    keys = [folder.pk for folder in folders]
    Folder.objects.filter(owner=owner, trash_root__in=keys).update(**_BACK)
    File.objects.filter(owner=owner, trash_root__in=keys).update(**_BACK)


def _restore_files(owner: User, files: list[File]) -> None:
    wanted = {f.folder_id for f in files if f.folder_id}
    live_folders = Folder.objects.filter(owner=owner, pk__in=wanted).live()
    live = set(live_folders.values_list("pk", flat=True))
    by_folder: dict[UUID | None, list[File]] = defaultdict(list)
    for file in files:
        by_folder[file.folder_id if file.folder_id in live else None].append(file)
    for folder, rows in by_folder.items():
        taken = names_of(File.objects.filter(owner=owner, folder=folder).live())
        place(File, rows, taken, folder=folder, **_BACK)


def _check_trashed(kind: type[File] | type[Folder], owner: User, keys: Collection[UUID]) -> None:
    rows = kind.objects.visible_to(owner).filter(pk__in=keys, trash_root=F("pk"))
    if keys and rows.count() != len(keys):
        raise NotFound(
            _("This item is not in the trash, or was trashed with its folder. Restore the folder instead.")
        )


def _delete(kind: type[File] | type[Folder], owner: User, key: UUID) -> None:
    # Trash first: a large folder is purged in several transactions, and stays in the trash if one fails.
    row = kind.objects.visible_to(owner).filter(pk=key).first()
    if row is not None and row.trashed_at is None:
        chosen = Selection((row,), ()) if isinstance(row, Folder) else Selection((), (row,))
        trash(owner=owner, chosen=chosen)
    _check_trashed(kind, owner, {key})
    delete_forever(owner=owner, root_ids=[key])


def _owners(rows: QuerySet[File] | QuerySet[Folder]) -> set[UUID]:
    return set(rows.values_list("owner", flat=True))


def _roots(owner: User, **narrower: object) -> list[UUID]:
    wanted = {"owner": owner, "trash_root": F("pk"), **narrower}
    folders = Folder.objects.filter(**wanted).values_list("pk", flat=True)
    files = File.objects.filter(**wanted).values_list("pk", flat=True)
    return [*folders, *files]


def _purge(owner: User, roots: Collection[UUID]) -> None:
    """Delete trashed items and their contents, except items restored in the meantime.

    In one transaction per chunk, to avoid a deadlock: a finishing job locks its images' rows and waits for
    the owner's usage; a longer transaction would lock the usage and wait for more of these rows.
    """
    ours = {"owner": owner, "trash_root__in": list(roots), "trashed_at__lte": timezone.now()}
    with transaction.atomic():
        lock_tree(owner)
        inside = list(Folder.objects.filter(**ours).values_list("pk", flat=True))
        # An item trashed before its folder is separate, and stays until its own deletion.
        File.objects.filter(owner=owner, folder__in=inside).exclude(trash_root__in=roots).update(folder=None)
        Folder.objects.filter(owner=owner, parent__in=inside).exclude(trash_root__in=roots).update(
            parent=None
        )
    while _purge_files(owner, ours):
        pass
    with transaction.atomic():
        lock_tree(owner)
        Folder.objects.filter(**ours).delete()


@transaction.atomic
def _purge_files(owner: User, ours: Mapping[str, Any]) -> bool:
    """Delete up to `_CHUNK` files; return whether there were any."""
    # Read under the lock: another request may have restored them.
    lock_tree(owner)
    keys = list(File.objects.filter(**ours).values_list("pk", flat=True)[:_CHUNK])
    File.objects.filter(pk__in=keys).delete()
    return bool(keys)
