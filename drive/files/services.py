"""Services of the drive: get, create, rename, select and move files and folders.

Each function opens its own transaction and raises domain errors.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files import quota
from drive.files.names import clean_name
from drive.files.placement import first_free, hold, lock_tree, names_of, naming, place
from drive.files.tree import Tree
from drive.models import File, FileKind, FileState, Folder
from ipau.common.errors import Conflict, Invalid, NotFound
from ipau.common.ids import as_uuid
from ipau.common.postgresql.prepared_queries import PreparedQuery

MAX_DEPTH = 40

_live_file = PreparedQuery(
    lambda owner, file: File.objects.visible_to(User(pk=owner)).live().filter(pk=file), owner=UUID, file=UUID
)


@dataclass(frozen=True)
class Selection:
    """Selected folders and files."""

    folders: tuple[Folder, ...]
    files: tuple[File, ...]

    def __len__(self) -> int:
        return len(self.folders) + len(self.files)


def get_folder(*, owner: User, folder_id: object) -> Folder:
    """Return a live folder of `owner`.

    Raises:
        NotFound: no live folder of the owner has this id.
    """
    folder = Folder.objects.visible_to(owner).live().filter(pk=as_uuid(folder_id)).first()
    if folder is None:
        raise NotFound(_("This folder does not exist."))
    return folder


def get_file(*, owner: User, file_id: object) -> File:
    """Return a live file of `owner`.

    Raises:
        NotFound: no live file of the owner has this id.
    """
    file = _live_file.first(owner=owner.pk, file=as_uuid(file_id))
    if file is None:
        raise NotFound(_("This file does not exist."))
    return file


def select(*, owner: User, folder_ids: Iterable[object] = (), file_ids: Iterable[object] = ()) -> Selection:
    """Return the live folders and files with these ids.

    Raises:
        NotFound: one of them does not exist or belongs to another account.
        Invalid: no ids were passed.
    """
    folder_keys = {as_uuid(i) for i in folder_ids}
    file_keys = {as_uuid(i) for i in file_ids}
    if not folder_keys and not file_keys:
        raise Invalid(_("Nothing is selected."))
    folders = tuple(Folder.objects.visible_to(owner).live().filter(pk__in=folder_keys).order_by("name"))
    files = tuple(File.objects.visible_to(owner).live().filter(pk__in=file_keys).order_by("id"))
    if len(folders) != len(folder_keys) or len(files) != len(file_keys):
        raise NotFound(_("Some of the selected items no longer exist. Reload the page and select again."))
    return Selection(folders, files)


def ancestors_of(folder: Folder | None) -> list[Folder]:
    """Return the folders from the top of the drive to `folder`, itself included as the last one."""
    if folder is None:
        return []
    rows = Folder.tree.tree_filter(owner=folder.owner_id)
    return list(rows.ancestors(folder, include_self=True))


def create_folder(*, owner: User, parent: Folder | None, name: str) -> Folder:
    """Create an empty folder.

    Raises:
        Invalid: the name is invalid, the folders would be nested too deeply, or there are too many.
        Conflict: a folder with this name already exists.
    """
    clean = clean_name(name)
    if parent is not None and len(ancestors_of(parent)) >= MAX_DEPTH:
        raise too_deep()
    quota.check_folders(owner=owner)
    try:
        with transaction.atomic():
            hold(parent)
            return Folder.objects.create(owner=owner, parent=parent, name=clean)
    except IntegrityError as error:
        raise Conflict(_folder_taken() % {"name": clean}, code="name_taken") from error


def create_numbered_folder(*, owner: User, parent: Folder | None, name: str) -> Folder:
    """Create a folder named `name`, or "name (2)" and so on if that is taken. Raises as `create_folder`."""
    quota.check_folders(owner=owner)

    def attempt(free: str) -> Folder:
        hold(parent)
        return Folder.objects.create(owner=owner, parent=parent, name=free)

    here = Folder.objects.filter(owner=owner, parent=parent).live()
    return first_free(clean_name(name), here, attempt)


def folder_at_top(*, owner: User, name: str) -> Folder:
    """Return the folder `name` at the top of the drive; create it if it is missing."""
    here = Folder.objects.filter(owner=owner, parent=None, name=name).live()
    found = here.first()
    if found is not None:
        return found
    try:
        return create_folder(owner=owner, parent=None, name=name)
    except Conflict:
        # Another request has just created it.
        return here.get()


def rename_file(*, owner: User, file_id: object, name: str) -> File:
    """Rename a file.

    Raises:
        NotFound, Invalid: no such file, or the name is invalid.
        Conflict: another file in its folder has this name.
    """
    file = get_file(owner=owner, file_id=file_id)
    _rename(file, name, _("A file named “%(name)s” already exists here. Choose another name."))
    return file


def rename_folder(*, owner: User, folder_id: object, name: str) -> Folder:
    """Rename a folder. Raises as `rename_file`."""
    folder = get_folder(owner=owner, folder_id=folder_id)
    _rename(folder, name, _folder_taken())
    return folder


@transaction.atomic
def move(*, owner: User, chosen: Selection, destination: Folder | None) -> int:
    """Move all selected items into `destination` (None: the top of the drive), or none of them.

    A taken name gets a number. Returns the number of moved items, without those already in `destination`.

    Raises:
        Conflict: a folder would end up inside itself.
        Invalid: the folders would be nested too deeply.
        NotFound: the destination has been trashed in the meantime.
    """
    lock_tree(owner)
    hold(destination)
    # Again, under the lock: no request can trash the items now.
    chosen = select(
        owner=owner, folder_ids=[f.pk for f in chosen.folders], file_ids=[f.pk for f in chosen.files]
    )
    target = destination.pk if destination else None
    folders = [f for f in chosen.folders if f.parent_id != target]
    files = [f for f in chosen.files if f.folder_id != target]
    _check_move(owner, folders, target)
    now = timezone.now()
    with naming():
        taken = names_of(Folder.objects.filter(owner=owner, parent=destination).live())
        place(Folder, folders, taken, parent=destination, updated_at=now)
        taken = names_of(File.objects.filter(owner=owner, folder=destination).live())
        place(File, files, taken, folder=destination, updated_at=now)
    return len(folders) + len(files)


def pictures_in(*, owner: User, chosen: Selection, limit: int) -> list[File]:
    """Return the selected images, including those in selected folders and their subfolders.

    In the order of the selection, without duplicates; folders by name.

    Raises:
        Invalid: more than `limit` images.
    """
    found = {f.pk: f for f in chosen.files if f.kind == FileKind.PICTURE and f.state != FileState.REFUSED}
    tree = Tree.of(owner.pk) if chosen.folders else None
    for folder in chosen.folders:
        inside = tree.descendants([folder.pk]) if tree else ()
        rows = File.objects.filter(owner=owner, folder__in=inside).runnable().order_by("folder", "name", "id")
        for file in rows[: limit + 1]:
            found.setdefault(file.pk, file)
    if len(found) > limit:
        raise Invalid(
            _("A job can have up to %(limit)d images. Select fewer.") % {"limit": limit},
            code="too_many_files",
        )
    return list(found.values())


def too_deep() -> Invalid:
    """Return the error for folders that would be nested more than `MAX_DEPTH` deep."""
    return Invalid(
        _("Folders can be nested up to %(depth)d levels deep.") % {"depth": MAX_DEPTH}, code="too_deep"
    )


def _rename(row: File | Folder, name: str, taken: str) -> None:
    row.name = clean_name(name)
    try:
        with transaction.atomic():
            row.save(update_fields=["name", "updated_at"])
    except IntegrityError as error:
        raise Conflict(taken % {"name": row.name}, code="name_taken") from error


def _check_move(owner: User, folders: list[Folder], target: UUID | None) -> None:
    tree = Tree.of(owner.pk)
    lineage = tree.lineage(target)
    for folder in folders:
        if folder.pk in lineage:
            raise Conflict(
                _("“%(name)s” cannot be moved into itself.") % {"name": folder.name}, code="folder_cycle"
            )
        if len(lineage) + tree.height(folder.pk) > MAX_DEPTH:
            raise too_deep()


def _folder_taken() -> str:
    return _("A folder named “%(name)s” already exists here. Choose another name.")
