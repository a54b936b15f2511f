"""The trash: putting things in, taking them back, deleting them for good, by hand and by the sweep."""

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

# A revoked link stays this long, so that a repeated request that made it makes no other.
REVOKED_DAYS = 30
# Rows that one statement deletes; a folder may hold a hundred thousand.
_CHUNK = 1000
# What a row says that is not in the trash.
_BACK: dict[str, Any] = {"trashed_at": None, "trash_root": None}


@transaction.atomic
def trash(*, owner: User, chosen: Selection) -> datetime:
    """Put all that was chosen into the trash, folders with everything in them.

    Returns the time that all of it now carries; `restore_batch` takes it to bring everything back.
    """
    lock_tree(owner)
    tree = Tree.of(owner.pk)
    now = timezone.now()
    for folder in chosen.folders:
        inside = tree.inside([folder.pk])
        gone = {"trashed_at": now, "trash_root": folder.pk}
        Folder.objects.filter(pk__in=inside).live().update(**gone)
        File.objects.filter(folder__in=inside).live().update(**gone)
    keys = [file.pk for file in chosen.files]
    File.objects.filter(pk__in=keys).live().update(trashed_at=now, trash_root=F("pk"))
    return now


def restore(*, owner: User, root_ids: Iterable[object]) -> int:
    """Take things back out of the trash to where they were, and return how many.

    What has lost its folder goes to the top of the drive; what has lost its name gets a number.

    Raises:
        NotFound: one of them is not in the owner's trash, or went there only as a part of its folder.
    """
    keys = {as_uuid(i) for i in root_ids}
    if not keys:
        raise Invalid(_("Nothing is selected."))
    with transaction.atomic():
        lock_tree(owner)
        # The latest first: what was trashed later may be the folder of what was trashed earlier.
        roots = {"owner": owner, "pk__in": keys, "trash_root": F("pk")}
        folders = list(Folder.objects.filter(**roots).order_by("-trashed_at", "id"))
        files = list(File.objects.filter(**roots).order_by("-trashed_at", "id"))
        if len(folders) + len(files) != len(keys):
            raise NotFound(_("Some of this is no longer in the trash."))
        with naming():
            _restore_folders(owner, folders)
            _restore_files(owner, files)
    return len(keys)


def restore_selected(
    *, owner: User, folder_ids: Iterable[object] = (), file_ids: Iterable[object] = ()
) -> int:
    """Take folders and files out of the trash; return how many. Raises as `restore`."""
    folders, files = ({as_uuid(i) for i in ids} for ids in (folder_ids, file_ids))
    _check_trashed(Folder, owner, folders)
    _check_trashed(File, owner, files)
    return restore(owner=owner, root_ids=folders | files)


def restore_batch(*, owner: User, trashed_at: datetime) -> int:
    """Undo one call of `trash`, named by the time it returned. Raises as `restore`."""
    batch = {"owner": owner, "trashed_at": trashed_at, "trash_root": F("pk")}
    folders = Folder.objects.filter(**batch).values_list("pk", flat=True)
    files = File.objects.filter(**batch).values_list("pk", flat=True)
    keys = [*folders, *files]
    if not keys:
        raise NotFound(_("This is no longer in the trash."))
    return restore(owner=owner, root_ids=keys)


def roots_in_trash(*, owner: User, root_ids: Iterable[object]) -> list[UUID]:
    """Return the chosen roots of the owner's trash.

    Raises:
        Invalid: nothing was chosen.
        NotFound: one of them is not in the owner's trash, or went there only as a part of its folder.
    """
    keys = {as_uuid(i) for i in root_ids}
    if not keys:
        raise Invalid(_("Nothing is selected."))
    found = [key for key in _roots(owner) if key in keys]
    if len(found) != len(keys):
        raise NotFound(_("Some of this is no longer in the trash."))
    return found


def count_trash(*, owner: User) -> int:
    """Return how many things lie in the owner's trash by themselves."""
    return len(_roots(owner))


def delete_forever(*, owner: User, root_ids: Iterable[object]) -> int:
    """Delete chosen things of the trash for good; return how many. Raises as `roots_in_trash`."""
    roots = roots_in_trash(owner=owner, root_ids=root_ids)
    _purge(owner, roots)
    return len(roots)


def empty_trash(*, owner: User) -> int:
    """Delete all of the owner's trash for good; return how many things lay in it by themselves."""
    roots = _roots(owner)
    _purge(owner, roots)
    return len(roots)


def delete_file(*, owner: User, file_id: object) -> None:
    """Delete a file for good, from its folder or from the trash.

    Raises:
        NotFound: there is none, or it lies in the trash only as a part of its folder.
    """
    _delete(File, owner, as_uuid(file_id))


def delete_folder(*, owner: User, folder_id: object) -> None:
    """Delete a folder and all that is in it for good. As `delete_file`."""
    _delete(Folder, owner, as_uuid(folder_id))


def sweep_trash(*, owners: int = 100) -> int:
    """Delete what has been in the trash for longer than `settings.TRASH_DAYS`; return how many roots."""
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
    """Delete links that were revoked `REVOKED_DAYS` ago, and return how many."""
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
    homes = Folder.objects.filter(owner=owner, pk__in=wanted).live()
    live = set(homes.values_list("pk", flat=True))
    by_home: dict[UUID | None, list[File]] = defaultdict(list)
    for file in files:
        by_home[file.folder_id if file.folder_id in live else None].append(file)
    for home, rows in by_home.items():
        taken = names_of(File.objects.filter(owner=owner, folder=home).live())
        place(File, rows, taken, folder=home, **_BACK)


def _check_trashed(kind: type[File] | type[Folder], owner: User, keys: Collection[UUID]) -> None:
    rows = kind.objects.visible_to(owner).filter(pk__in=keys, trash_root=F("pk"))
    if keys and rows.count() != len(keys):
        raise NotFound(_("This is not in the trash, or only as a part of its folder."))


def _delete(kind: type[File] | type[Folder], owner: User, key: UUID) -> None:
    # By way of the trash, where it stays should this be cut short: a large folder is purged in several
    # transactions.
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
    """Delete these and what went into the trash with them, as far as nobody restores it meanwhile.

    In one transaction for so many files at a time: a job that finishes just now holds its pictures' rows and
    waits for the owner's usage, which a longer one would hold while it waits for more such rows.
    """
    ours = {"owner": owner, "trash_root__in": list(roots), "trashed_at__lte": timezone.now()}
    with transaction.atomic():
        lock_tree(owner)
        inside = list(Folder.objects.filter(**ours).values_list("pk", flat=True))
        # What was trashed before its folder was is a thing of its own, and stays until its own time has come.
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
    """Delete `_CHUNK` of these files; return whether there were any."""
    # Read under the lock: somebody may just have restored them.
    lock_tree(owner)
    keys = list(File.objects.filter(**ours).values_list("pk", flat=True)[:_CHUNK])
    File.objects.filter(pk__in=keys).delete()
    return bool(keys)
