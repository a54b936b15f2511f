"""What the drive's pages show: rows in an order, a page of them at a time, in few queries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Subquery
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from drive.models import File, FileQuerySet, Folder, Thumbnail
from ipau.common.ids import as_uuid
from ipau.common.paging import Page, cursor_after, cursor_before, paginate
from workers.thumbnail_sizes import THUMBNAIL_SIDE, VIEW_SIDE

TILES = 60
# The dialog for moving shows this many folders at most.
MOST_FOLDERS = 2000
# A page has no more tiles than a person has scrolled to.
MOST_TILES = 2000
# The tree beside a listing shows this many folders at most; the listing has them all.
MOST_BRANCHES = 500
# A page of the listing that begins for the sake of one file shows so many others before it.
LEAD = 20


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
# Has one value in all rows of a folder, and comes before the order in the indexes; see `paginate`.
PINNED = ("folder_id",)


def with_thumbnails(files: FileQuerySet) -> Any:
    """Annotate files with the digest of their thumbnail (None while there is none)."""
    thumbnail = Thumbnail.objects.filter(source=OuterRef("blob"), side=THUMBNAIL_SIDE).values("blob_id")[:1]
    return files.annotate(thumbnail=Subquery(thumbnail))


def files_in(*, owner: User, folder: Folder | None, sort: Sort, cursor: str | None) -> Page[File]:
    """Return a page of the files that lie directly in a folder (None: the top of the drive)."""
    rows = in_order(with_thumbnails(rows_in(owner=owner, folder_id=folder.pk if folder else None)))
    return paginate(rows, order=sort.files, size=TILES, cursor=cursor, pinned=PINNED)


def rows_in(*, owner: User, folder_id: UUID | None) -> FileQuerySet:
    """Return the files that lie directly in a folder (None: the top of the drive), in no order."""
    return File.objects.visible_to(owner).live().filter(folder=folder_id)


def folders_in(*, owner: User, parent: Folder | None, sort: Sort, cursor: str | None) -> Page[Folder]:
    """Return a page of the folders that lie directly in a folder (None: the top of the drive)."""
    rows = in_order(Folder.objects.visible_to(owner).live().filter(parent=parent))
    return paginate(rows, order=sort.folders, size=TILES, cursor=cursor, pinned=["parent_id"])


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


def largest_thumbnails(*, blob_ids: Iterable[str]) -> dict[str, Thumbnail]:
    """Return the largest thumbnail of each of these bytes that has one. One query."""
    rows = Thumbnail.objects.filter(source__in=list(blob_ids), side__in=[THUMBNAIL_SIDE, VIEW_SIDE])
    return {thumbnail.source_id: thumbnail for thumbnail in rows.order_by("side")}


def in_order(rows: Any) -> Any:
    """Annotate with the name as people sort it: capitals do not come first."""
    return rows.annotate(sort_name=Lower("name"))


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


@dataclass(frozen=True)
class Steps:
    """The files before and after one, and the cursor of a page that shows it; empty: the first page does."""

    before: UUID | None = None
    after: UUID | None = None
    cursor: str = ""


def steps_from(file: File, rows: Any, sort: Sort, *, pinned: Sequence[str] = ()) -> Steps:
    """Return the ways on from a file, which need not be among `rows` itself.

    Args:
        rows: the files of the listing, in no order.
        pinned: as `paginate` takes it.
    """
    order: Any = {"order": sort.files, "pinned": pinned}
    here = in_order(File.objects.filter(pk=file.pk)).get() if "sort_name" in sort.files else file
    ordered = in_order(rows).only("id", "name", "size")
    earlier = paginate(ordered, size=TILES, cursor=cursor_before(here, sort.files), **order).rows
    later = paginate(ordered, size=1, cursor=cursor_after(here, sort.files), **order).rows
    return Steps(
        before=earlier[-1].pk if earlier else None,
        after=later[0].pk if later else None,
        cursor=cursor_after(earlier[-LEAD - 1], sort.files) if len(earlier) == TILES else "",
    )
