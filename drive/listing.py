"""What the drive's pages show: rows in an order, a page of them at a time, in few queries."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from drive.models import File, FileQuerySet, Folder, Thumbnail
from drive.placing import as_uuid
from ipau.common.paging import Page, paginate

SIDE = 256
VIEW_SIDE = 1024
TILES = 60
# The dialog for moving shows this many folders at most.
MOST_FOLDERS = 2000
# A page has no more tiles than a person has scrolled to.
MOST_TILES = 2000


@dataclass(frozen=True)
class Sort:
    """An order that a person may choose."""

    key: str
    label: str | Promise
    files: tuple[str, ...]
    folders: tuple[str, ...]


SORTS = {
    sort.key: sort
    for sort in (
        Sort("newest", _("Newest first"), ("-id",), ("-id",)),
        Sort("name", _("Name"), ("sort_name", "id"), ("sort_name", "id")),
        Sort("size", _("Largest first"), ("-size", "-id"), ("sort_name", "id")),
    )
}
NEWEST = SORTS["newest"]


def with_thumbnails(files: FileQuerySet) -> Any:
    """Annotate files with the digest of their thumbnail (None while there is none)."""
    thumbnail = Thumbnail.objects.filter(source=OuterRef("blob"), side=SIDE).values("blob_id")[:1]
    return files.annotate(thumbnail=Subquery(thumbnail))


def files_in(*, owner: User, folder: Folder | None, sort: Sort, cursor: str | None) -> Page[File]:
    """Return a page of the files that lie directly in a folder (None: the top of the drive)."""
    rows = in_order(with_thumbnails(File.objects.visible_to(owner).live().filter(folder=folder)))
    return paginate(rows, order=sort.files, size=TILES, cursor=cursor, pinned=["folder_id"])


def folders_in(*, owner: User, parent: Folder | None, sort: Sort, cursor: str | None) -> Page[Folder]:
    """Return a page of the folders that lie directly in a folder (None: the top of the drive)."""
    rows = in_order(Folder.objects.visible_to(owner).live().filter(parent=parent))
    return paginate(rows, order=sort.folders, size=TILES, cursor=cursor)


def trashed_files(*, owner: User, cursor: str | None) -> Page[File]:
    """Return a page of the files that were put into the trash by themselves, the latest first."""
    rows = with_thumbnails(File.objects.visible_to(owner).filter(trash_root=F("pk")))
    return paginate(rows, order=("-trashed_at", "-id"), size=TILES, cursor=cursor)


def trashed_folders(*, owner: User, cursor: str | None) -> Page[Folder]:
    """Return a page of the folders that were put into the trash by themselves, the latest first."""
    rows = Folder.objects.visible_to(owner).filter(trash_root=F("pk"))
    return paginate(rows, order=("-trashed_at", "-id"), size=TILES, cursor=cursor)


def days_left(row: File | Folder) -> int:
    """Return in how many days something in the trash is deleted for good."""
    gone = (timezone.now() - row.trashed_at).days if row.trashed_at else 0
    return max(0, int(settings.TRASH_DAYS) - gone)


def all_folders(*, owner: User) -> list[Folder]:
    """Return the owner's live folders as a tree is read, each with its `tree_depth`."""
    rows = Folder.tree.tree_filter(owner=owner, trashed_at__isnull=True).order_siblings_by("name")
    return list(rows[:MOST_FOLDERS])


def tiles(*, owner: User, file_ids: Iterable[object]) -> list[File]:
    """Return those of the files that are still live, as a listing shows them."""
    keys = [as_uuid(i) for i in file_ids][:MOST_TILES]
    return list(with_thumbnails(File.objects.visible_to(owner).live().filter(pk__in=keys)))


def thumbnail_of(*, owner: User, file_id: UUID, side: int) -> Thumbnail | None:
    """Return a thumbnail of the owner's file, be it in the trash or not, together with its bytes' row."""
    rows = Thumbnail.objects.filter(side=side, source__files__pk=file_id, source__files__owner=owner)
    return rows.select_related("blob").first()


def neighbours(file: File, sort: Sort) -> tuple[UUID | None, UUID | None]:
    """Return the files before and after this one in its folder."""
    rows = in_order(File.objects.filter(owner=file.owner_id, folder=file.folder_id).live())
    names = [name.lstrip("-") for name in sort.files]
    down = sort.files[0].startswith("-")
    here = in_order(File.objects.filter(pk=file.pk)).values_list(*names).get()
    return _next(rows, names, here, up=down), _next(rows, names, here, up=not down)


def _next(rows: QuerySet[File], names: list[str], here: tuple[Any, ...], *, up: bool) -> UUID | None:
    """Return the row nearest to `here` in one direction; the last of `names` is a unique column."""
    beyond = "gt" if up else "lt"
    condition = Q(**{f"{names[0]}__{beyond}": here[0]})
    if len(names) > 1:
        condition |= Q(**{names[0]: here[0], f"{names[1]}__{beyond}": here[1]})
    sort = names if up else [f"-{name}" for name in names]
    return rows.filter(condition).order_by(*sort).values_list("pk", flat=True).first()


def in_order(rows: Any) -> Any:
    """Annotate with the name as people sort it: capitals do not come first."""
    return rows.annotate(sort_name=Lower("name"))
