"""One file or folder: changed in several ways at once or in none, restored, deleted for good."""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from accounts.models import User
from drive import organising, purging, services
from drive.models import File, Folder
from drive.placing import as_uuid
from drive.services import Selection
from ipau.common.errors import NotFound

UNCHANGED: Any = object()


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
        organising.star_files(owner=owner, chosen=chosen, on=starred)
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


def restore(*, owner: User, folder_ids: Iterable[object] = (), file_ids: Iterable[object] = ()) -> int:
    """Take folders and files out of the trash; return how many. Raises as `services.restore`."""
    folders, files = ({as_uuid(i) for i in ids} for ids in (folder_ids, file_ids))
    _check_trashed(Folder, owner, folders)
    _check_trashed(File, owner, files)
    return services.restore(owner=owner, root_ids=folders | files)


def _check_trashed(kind: type[File] | type[Folder], owner: User, keys: Collection[UUID]) -> None:
    rows = kind.objects.visible_to(owner).filter(pk__in=keys, trash_root=F("pk"))
    if keys and rows.count() != len(keys):
        raise NotFound(_("This is not in the trash, or only as a part of its folder."))


def delete_file(*, owner: User, file_id: object) -> None:
    """Delete a file for good, from its folder or from the trash.

    Raises:
        NotFound: there is none, or it lies in the trash only as a part of its folder.
    """
    _delete(File, owner, as_uuid(file_id))


def delete_folder(*, owner: User, folder_id: object) -> None:
    """Delete a folder and all that is in it for good. As `delete_file`."""
    _delete(Folder, owner, as_uuid(folder_id))


def _delete(kind: type[File] | type[Folder], owner: User, key: UUID) -> None:
    # By way of the trash, where it stays should this be cut short: a large folder is purged in several
    # transactions.
    row = kind.objects.visible_to(owner).filter(pk=key).first()
    if row is not None and row.trashed_at is None:
        chosen = Selection((row,), ()) if isinstance(row, Folder) else Selection((), (row,))
        services.trash(owner=owner, chosen=chosen)
    _check_trashed(kind, owner, {key})
    purging.delete_forever(owner=owner, root_ids=[key])
