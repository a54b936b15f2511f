"""What people do with their drive. Each function owns its transaction and raises domain errors."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import User
from drive import blobs, tasks
from drive.models import Blob, File, FileKind, FileState, Folder
from drive.names import clean_name, free_name, upload_name
from ipau.common.errors import Conflict, Invalid, NotFound, TooLarge
from workers.reading import PictureError, identify

MAX_DEPTH = 40
T = TypeVar("T")


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
    folder = Folder.objects.visible_to(owner).live().filter(pk=_as_uuid(folder_id)).first()
    if folder is None:
        raise NotFound("This folder does not exist.")
    return folder


def get_file(*, owner: User, file_id: object) -> File:
    """Return a live file of `owner`.

    Raises:
        NotFound: there is none with this id.
    """
    file = File.objects.visible_to(owner).live().filter(pk=_as_uuid(file_id)).first()
    if file is None:
        raise NotFound("This file does not exist.")
    return file


def select(*, owner: User, folder_ids: Iterable[object] = (), file_ids: Iterable[object] = ()) -> Selection:
    """Return the chosen live folders and files.

    Raises:
        NotFound: one of them does not exist or is not the owner's. Nothing is selected then.
        Invalid: nothing was chosen.
    """
    folder_keys = {_as_uuid(i) for i in folder_ids}
    file_keys = {_as_uuid(i) for i in file_ids}
    if not folder_keys and not file_keys:
        raise Invalid("Nothing is selected.")
    folders = tuple(Folder.objects.visible_to(owner).live().filter(pk__in=folder_keys).order_by("name"))
    files = tuple(File.objects.visible_to(owner).live().filter(pk__in=file_keys).order_by("id"))
    if len(folders) != len(folder_keys) or len(files) != len(file_keys):
        raise NotFound("Some of what you selected no longer exists.")
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
        Invalid: the name cannot be used, or the folders would be nested too deeply.
        Conflict: a folder of that name is there already.
    """
    clean = clean_name(name)
    if parent is not None and len(ancestors_of(parent)) >= MAX_DEPTH:
        raise Invalid(f"Folders can be nested {MAX_DEPTH} deep at most.")
    try:
        with transaction.atomic():
            return Folder.objects.create(owner=owner, parent=parent, name=clean)
    except IntegrityError as error:
        raise Conflict(f"There is a folder named “{clean}” here already.", code="name_taken") from error


def create_numbered_folder(*, owner: User, parent: Folder | None, name: str) -> Folder:
    """Make a folder named `name`, or "name (2)" and so on where that is taken."""

    def attempt(free: str) -> Folder:
        return Folder.objects.create(owner=owner, parent=parent, name=free)

    here = Folder.objects.filter(owner=owner, parent=parent).live()
    return _first_free(clean_name(name), here, attempt)


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
    """Take a picture into the drive; a taken name gets a number. A worker then checks all its pixels.

    Args:
        content: an open binary file, read from its start.
        size: bytes, as its sender or the server counted them.

    Raises:
        TooLarge: more bytes than one request may carry.
        Invalid: it is empty, or no picture that we read (by content, not by name).
    """
    if size > settings.UPLOAD_MAX_BYTES:
        limit = settings.UPLOAD_MAX_BYTES // 2**20
        raise TooLarge(f"This file has {size / 2**20:.0f} MB; at most {limit} MB are accepted.")
    if size == 0:
        raise Invalid("This file is empty.", code="empty_file")
    try:
        facts = identify(content)
    except PictureError as error:
        raise Invalid(error.message, code=error.code) from error
    stored = blobs.store_file(content, facts.content_type)

    def attempt(free: str) -> File:
        blobs.register([stored])
        file = File.objects.create(
            owner=owner,
            folder=folder,
            name=free,
            blob_id=stored.sha256,
            kind=FileKind.PICTURE,
            content_type=stored.content_type,
            size=stored.size,
            width=facts.width,
            height=facts.height,
            metadata=metadata or {},
        )
        transaction.on_commit(lambda: tasks.send_inspection(owner_id=str(owner.pk)))
        return file

    here = File.objects.filter(owner=owner, folder=folder).live()
    return _first_free(upload_name(name, facts.suffix), here, attempt)


def rename_file(*, owner: User, file_id: object, name: str) -> File:
    """Give a file another name.

    Raises:
        NotFound, Invalid: no such file, or a name that cannot be used.
        Conflict: another file in its folder has this name.
    """
    file = get_file(owner=owner, file_id=file_id)
    _rename(file, name, "file")
    return file


def rename_folder(*, owner: User, folder_id: object, name: str) -> Folder:
    """Give a folder another name. Raises as `rename_file`."""
    folder = get_folder(owner=owner, folder_id=folder_id)
    _rename(folder, name, "folder")
    return folder


def _rename(row: File | Folder, name: str, noun: str) -> None:
    row.name = clean_name(name)
    try:
        with transaction.atomic():
            row.save(update_fields=["name", "updated_at"])
    except IntegrityError as error:
        raise Conflict(f"There is a {noun} named “{row.name}” here already.", code="name_taken") from error


@transaction.atomic
def move(*, owner: User, chosen: Selection, destination: Folder | None) -> None:
    """Move all that was chosen into `destination` (None: the top of the drive), or nothing of it.

    Raises:
        Invalid: a folder would end up inside itself.
        Conflict: a name is taken there.
    """
    _lock_tree(owner)
    way = {folder.pk for folder in ancestors_of(destination)}
    for folder in chosen.folders:
        if folder.pk in way:
            raise Invalid(f"“{folder.name}” cannot be moved into itself.", code="folder_cycle")
    try:
        with transaction.atomic():
            now = timezone.now()
            Folder.objects.filter(pk__in=[f.pk for f in chosen.folders]).update(
                parent=destination, updated_at=now
            )
            File.objects.filter(pk__in=[f.pk for f in chosen.files]).update(
                folder=destination, updated_at=now
            )
    except IntegrityError as error:
        raise Conflict(
            "Something with the same name is in that folder already. Nothing was moved.", code="name_taken"
        ) from error


@transaction.atomic
def trash(*, owner: User, chosen: Selection) -> None:
    """Put all that was chosen into the trash, folders with everything in them."""
    _lock_tree(owner)
    now = timezone.now()
    for folder in chosen.folders:
        inside = [folder.pk, *_descendant_ids(folder)]
        gone = {"trashed_at": now, "trash_root": folder.pk}
        Folder.objects.filter(pk__in=inside).live().update(**gone)
        File.objects.filter(folder__in=inside).live().update(**gone)
    for file in chosen.files:
        File.objects.filter(pk=file.pk).live().update(trashed_at=now, trash_root=file.pk)


@transaction.atomic
def restore(*, owner: User, root_ids: Iterable[object]) -> int:
    """Take things back out of the trash to where they were, and return how many.

    What has lost its folder goes to the top of the drive; what has lost its name gets a number.

    Raises:
        NotFound: one of them is not in the owner's trash.
    """
    _lock_tree(owner)
    keys = {_as_uuid(i) for i in root_ids}
    folders = list(Folder.objects.filter(owner=owner, pk__in=keys, trashed_at__isnull=False))
    files = list(File.objects.filter(owner=owner, pk__in=keys, trashed_at__isnull=False))
    if len(folders) + len(files) != len(keys):
        raise NotFound("Some of this is no longer in the trash.")
    back = {"trashed_at": None, "trash_root": None}
    for folder in folders:
        parent = folder.parent if folder.parent and folder.parent.trashed_at is None else None
        taken = _names(Folder.objects.filter(owner=owner, parent=parent).live())
        name = free_name(folder.name, taken)
        Folder.objects.filter(pk=folder.pk).update(parent=parent, name=name, **back)
        Folder.objects.filter(owner=owner, trash_root=folder.pk).update(**back)
        File.objects.filter(owner=owner, trash_root=folder.pk).update(**back)
    for file in files:
        home = file.folder if file.folder and file.folder.trashed_at is None else None
        taken = _names(File.objects.filter(owner=owner, folder=home).live())
        File.objects.filter(pk=file.pk).update(folder=home, name=free_name(file.name, taken), **back)
    return len(keys)


def pictures_in(*, owner: User, chosen: Selection, limit: int) -> list[File]:
    """Return the pictures that were chosen, those in chosen folders and their sub-folders included.

    Ordered as chosen, folders by name; each once.

    Raises:
        Invalid: more than `limit`.
    """
    found = {f.pk: f for f in chosen.files if f.kind == FileKind.PICTURE and f.state != FileState.REFUSED}
    for folder in chosen.folders:
        inside = [folder.pk, *_descendant_ids(folder)]
        rows = File.objects.filter(owner=owner, folder__in=inside).runnable().order_by("folder", "name", "id")
        for file in rows[: limit + 1]:
            found.setdefault(file.pk, file)
    if len(found) > limit:
        raise Invalid(f"A job takes {limit:,} pictures at most.", code="too_many_files")
    return list(found.values())


def file_for_blob(*, owner: User, sha256: str) -> Blob | None:
    """Return the blob if a file of the owner points to it, so that knowing a digest opens nothing."""
    return Blob.objects.filter(pk=sha256, files__owner=owner).first()


def _lock_tree(owner: User) -> None:
    """Serialise changes of one owner's tree: two moves at once could close a circle."""
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)


def _descendant_ids(folder: Folder) -> list[UUID]:
    rows = Folder.tree.tree_filter(owner=folder.owner_id, trashed_at__isnull=True)
    return list(rows.descendants(folder).values_list("pk", flat=True))


def _names(rows: Any) -> set[str]:
    return set(rows.values_list("name", flat=True))


def _first_free(name: str, rows: Any, attempt: Callable[[str], T]) -> T:
    """Call `attempt` with the first name that `rows` does not have; others may be taking names too."""
    taken: Collection[str] = ()
    while True:
        try:
            with transaction.atomic():
                return attempt(free_name(name, taken))
        except IntegrityError:
            now_taken = _names(rows)
            if now_taken == taken:
                raise
            taken = now_taken


def _as_uuid(value: object) -> UUID:
    """Read an id that somebody sent; one that cannot be an id names nothing."""
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError as error:
        raise NotFound("This does not exist.") from error
