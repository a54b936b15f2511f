"""What people do with their drive. Each function owns its transaction and raises domain errors."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive import blobs, quota, tasks
from drive.blobs import Stored
from drive.models import Blob, File, FileKind, FileState, Folder
from drive.names import clean_name
from drive.placing import as_uuid, first_free, hold, lock_tree, names_of, naming, place
from drive.sniffing import Found, sniff
from drive.taking import add_file
from drive.tree import Tree
from ipau.common.errors import Conflict, Invalid, NotFound, TooLarge, Unavailable
from ipau.common.postgresql.prepared_queries import PreparedQuery

logger = logging.getLogger(__name__)

MAX_DEPTH = 40

_live_file = PreparedQuery(
    lambda owner, file: File.objects.visible_to(User(pk=owner)).live().filter(pk=file), owner=UUID, file=UUID
)


@dataclass(frozen=True)
class Selection:
    """Folders and files chosen together."""

    folders: tuple[Folder, ...]
    files: tuple[File, ...]

    def __len__(self) -> int:
        return len(self.folders) + len(self.files)


def get_folder(*, owner: User, folder_id: object) -> Folder:
    """Return a live folder of `owner`.

    Raises:
        NotFound: there is none with this id.
    """
    folder = Folder.objects.visible_to(owner).live().filter(pk=as_uuid(folder_id)).first()
    if folder is None:
        raise NotFound(_("This folder does not exist."))
    return folder


def get_file(*, owner: User, file_id: object) -> File:
    """Return a live file of `owner`.

    Raises:
        NotFound: there is none with this id.
    """
    file = _live_file.first(owner=owner.pk, file=as_uuid(file_id))
    if file is None:
        raise NotFound(_("This file does not exist."))
    return file


def select(*, owner: User, folder_ids: Iterable[object] = (), file_ids: Iterable[object] = ()) -> Selection:
    """Return the chosen live folders and files.

    Raises:
        NotFound: one of them does not exist or is not the owner's. Nothing is selected then.
        Invalid: nothing was chosen.
    """
    folder_keys = {as_uuid(i) for i in folder_ids}
    file_keys = {as_uuid(i) for i in file_ids}
    if not folder_keys and not file_keys:
        raise Invalid(_("Nothing is selected."))
    folders = tuple(Folder.objects.visible_to(owner).live().filter(pk__in=folder_keys).order_by("name"))
    files = tuple(File.objects.visible_to(owner).live().filter(pk__in=file_keys).order_by("id"))
    if len(folders) != len(folder_keys) or len(files) != len(file_keys):
        raise NotFound(_("Some of what you selected no longer exists."))
    return Selection(folders, files)


def ancestors_of(folder: Folder | None) -> list[Folder]:
    """Return the way from the top of the drive to `folder`, which comes last."""
    if folder is None:
        return []
    rows = Folder.tree.tree_filter(owner=folder.owner_id)
    return list(rows.ancestors(folder, include_self=True))


def create_folder(*, owner: User, parent: Folder | None, name: str) -> Folder:
    """Make an empty folder.

    Raises:
        Invalid: the name cannot be used, the folders would be nested too deeply, or there are too many.
        Conflict: a folder of that name is there already.
    """
    clean = clean_name(name)
    if parent is not None and len(ancestors_of(parent)) >= MAX_DEPTH:
        raise _too_deep()
    quota.check_folders(owner=owner)
    try:
        with transaction.atomic():
            hold(parent)
            return Folder.objects.create(owner=owner, parent=parent, name=clean)
    except IntegrityError as error:
        raise Conflict(_folder_taken() % {"name": clean}, code="name_taken") from error


def create_numbered_folder(*, owner: User, parent: Folder | None, name: str) -> Folder:
    """Make a folder named `name`, or "name (2)" and so on where that is taken. Raises as `create_folder`."""
    quota.check_folders(owner=owner)

    def attempt(free: str) -> Folder:
        hold(parent)
        return Folder.objects.create(owner=owner, parent=parent, name=free)

    here = Folder.objects.filter(owner=owner, parent=parent).live()
    return first_free(clean_name(name), here, attempt)


def folder_at_top(*, owner: User, name: str) -> Folder:
    """Return the folder `name` at the top of the drive, making it where it is missing."""
    here = Folder.objects.filter(owner=owner, parent=None, name=name).live()
    found = here.first()
    if found is not None:
        return found
    try:
        return create_folder(owner=owner, parent=None, name=name)
    except Conflict:
        # Somebody made it between the look and the leap.
        return here.get()


def upload_file(
    *,
    owner: User,
    folder: Folder | None,
    name: str,
    content: BinaryIO,
    size: int,
    metadata: dict[str, Any] | None = None,
) -> File:
    """Take a file into the drive; a taken name gets a number. A worker then looks at all of it.

    Args:
        content: an open binary file, read from its start.
        size: bytes, as its sender or the server counted them.

    Raises:
        TooLarge: more bytes than one request may carry, or than the drive has room for.
        Invalid: it is empty, or nothing that the drive keeps (by content, not by name).
        Unavailable: the storage does not take it, being full for example.
    """
    stored, found = store_upload(owner=owner, content=content, size=size, limit=settings.UPLOAD_MAX_BYTES)
    return add_upload(owner=owner, folder=folder, name=name, stored=stored, facts=found, metadata=metadata)


def store_upload(*, owner: User, content: BinaryIO, size: int, limit: int) -> tuple[Stored, Found]:
    """Recognise what was sent and store its bytes for `add_upload`. Raises as `upload_file`."""
    if size > limit:
        raise _too_many_bytes(size, limit)
    if size == 0:
        raise Invalid(_("This file is empty."), code="empty_file")
    quota.check_room(owner=owner, size=size)
    found = sniff(content)
    try:
        return blobs.store_file(content, found.content_type), found
    except OSError as error:
        logger.exception("Could not store what was uploaded")
        text = _("The server cannot store this just now. Please try again later.")
        raise Unavailable(text, code="storage_full") from error


def add_upload(
    *,
    owner: User,
    folder: Folder | None,
    name: str,
    stored: Stored,
    facts: Found,
    metadata: dict[str, Any] | None = None,
    then: Callable[[File], File] | None = None,
) -> File:
    """Make a file of stored bytes and have a worker look at it. Arguments and errors as `taking.add_file`."""
    file = add_file(
        owner=owner, folder=folder, name=name, stored=stored, facts=facts, metadata=metadata, then=then
    )
    transaction.on_commit(lambda: tasks.send_inspection(owner_id=str(owner.pk)))
    return file


def rename_file(*, owner: User, file_id: object, name: str) -> File:
    """Give a file another name.

    Raises:
        NotFound, Invalid: no such file, or a name that cannot be used.
        Conflict: another file in its folder has this name.
    """
    file = get_file(owner=owner, file_id=file_id)
    _rename(file, name, _("There is a file named “%(name)s” here already."))
    return file


def rename_folder(*, owner: User, folder_id: object, name: str) -> Folder:
    """Give a folder another name. Raises as `rename_file`."""
    folder = get_folder(owner=owner, folder_id=folder_id)
    _rename(folder, name, _folder_taken())
    return folder


def _rename(row: File | Folder, name: str, taken: str) -> None:
    row.name = clean_name(name)
    try:
        with transaction.atomic():
            row.save(update_fields=["name", "updated_at"])
    except IntegrityError as error:
        raise Conflict(taken % {"name": row.name}, code="name_taken") from error


@transaction.atomic
def move(*, owner: User, chosen: Selection, destination: Folder | None) -> int:
    """Move all that was chosen into `destination` (None: the top of the drive), or nothing of it.

    What is there already stays; a name that is taken gets a number. Returns how many were moved.

    Raises:
        Conflict: a folder would end up inside itself.
        Invalid: the folders would be nested too deeply.
        NotFound: the destination has gone meanwhile.
    """
    lock_tree(owner)
    hold(destination)
    # Once more, now that nobody can trash any of it.
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


def _check_move(owner: User, folders: list[Folder], target: UUID | None) -> None:
    tree = Tree.of(owner.pk)
    way = tree.way_to(target)
    for folder in folders:
        if folder.pk in way:
            raise Conflict(
                _("“%(name)s” cannot be moved into itself.") % {"name": folder.name}, code="folder_cycle"
            )
        if len(way) + tree.height(folder.pk) > MAX_DEPTH:
            raise _too_deep()


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


def restore_batch(*, owner: User, trashed_at: datetime) -> int:
    """Undo one call of `trash`, named by the time it returned. Raises as `restore`."""
    batch = {"owner": owner, "trashed_at": trashed_at, "trash_root": F("pk")}
    folders = Folder.objects.filter(**batch).values_list("pk", flat=True)
    files = File.objects.filter(**batch).values_list("pk", flat=True)
    keys = [*folders, *files]
    if not keys:
        raise NotFound(_("This is no longer in the trash."))
    return restore(owner=owner, root_ids=keys)


_BACK: dict[str, Any] = {"trashed_at": None, "trash_root": None}


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


def pictures_in(*, owner: User, chosen: Selection, limit: int) -> list[File]:
    """Return the pictures that were chosen, those in chosen folders and their sub-folders included.

    Ordered as chosen, folders by name; each once.

    Raises:
        Invalid: more than `limit`.
    """
    found = {f.pk: f for f in chosen.files if f.kind == FileKind.PICTURE and f.state != FileState.REFUSED}
    tree = Tree.of(owner.pk) if chosen.folders else None
    for folder in chosen.folders:
        inside = tree.inside([folder.pk]) if tree else ()
        rows = File.objects.filter(owner=owner, folder__in=inside).runnable().order_by("folder", "name", "id")
        for file in rows[: limit + 1]:
            found.setdefault(file.pk, file)
    if len(found) > limit:
        raise Invalid(_("A job takes %(limit)d pictures at most.") % {"limit": limit}, code="too_many_files")
    return list(found.values())


def file_for_blob(*, owner: User, sha256: str) -> Blob | None:
    """Return the blob if a file of the owner points to it, so that knowing a digest opens nothing."""
    return Blob.objects.filter(pk=sha256, files__owner=owner).first()


def _folder_taken() -> str:
    return _("There is a folder named “%(name)s” here already.")


def _too_many_bytes(size: int, limit: int) -> TooLarge:
    numbers = {"size": -(-size // 2**20), "limit": limit // 2**20}
    return TooLarge(_("This file has %(size)d MB; at most %(limit)d MB are accepted.") % numbers)


def _too_deep() -> Invalid:
    return Invalid(_("Folders can be nested %(depth)d deep at most.") % {"depth": MAX_DEPTH}, code="too_deep")
