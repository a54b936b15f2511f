"""Queries of the drive's listings: sort orders, pagination, thumbnails."""

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
# Folders in the dialog for moving.
MOST_FOLDERS = 2000
# Tiles that one page may reload.
MOST_TILES = 2000
# Folders in the tree at the side of a listing; the listing has them all.
MOST_BRANCHES = 500
# Files before a given file, on the page of the listing that shows it.
LEAD = 20


@dataclass(frozen=True)
class Sort:
    """A sort order that the user can choose."""

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
# Leading index column, equal in all rows of a folder; see `paginate`.
PINNED = ("folder_id",)


def with_thumbnails(files: FileQuerySet) -> Any:
    """Annotate files with the digest of their thumbnail, or None."""
    thumbnail = Thumbnail.objects.filter(source=OuterRef("blob"), side=THUMBNAIL_SIDE).values("blob_id")[:1]
    return files.annotate(thumbnail=Subquery(thumbnail))


def files_in(*, owner: User, folder: Folder | None, sort: Sort, cursor: str | None) -> Page[File]:
    """Return a page of the files directly in a folder (None: the top of the drive)."""
    rows = in_order(with_thumbnails(rows_in(owner=owner, folder_id=folder.pk if folder else None)))
    return paginate(rows, order=sort.files, size=TILES, cursor=cursor, pinned=PINNED)


def rows_in(*, owner: User, folder_id: UUID | None) -> FileQuerySet:
    """Return the files directly in a folder (None: the top of the drive), unordered."""
    return File.objects.visible_to(owner).live().filter(folder=folder_id)


def folders_in(*, owner: User, parent: Folder | None, sort: Sort, cursor: str | None) -> Page[Folder]:
    """Return a page of the folders directly in a folder (None: the top of the drive)."""
    rows = in_order(Folder.objects.visible_to(owner).live().filter(parent=parent))
    return paginate(rows, order=sort.folders, size=TILES, cursor=cursor, pinned=["parent_id"])


def trashed_files(*, owner: User, cursor: str | None) -> Page[File]:
    """Return a page of the files that were trashed individually, latest first."""
    rows = with_thumbnails(File.objects.visible_to(owner).filter(trash_root=F("pk")))
    return paginate(rows, order=("-trashed_at", "-id"), size=TILES, cursor=cursor)


def trashed_folders(*, owner: User, cursor: str | None) -> Page[Folder]:
    """Return a page of the folders that were trashed individually, latest first."""
    rows = Folder.objects.visible_to(owner).filter(trash_root=F("pk"))
    return paginate(rows, order=("-trashed_at", "-id"), size=TILES, cursor=cursor)


def days_left(row: File | Folder) -> int:
    """Return the days until a trashed row is permanently deleted."""
    days = (timezone.now() - row.trashed_at).days if row.trashed_at else 0
    return max(0, int(settings.TRASH_DAYS) - days)


def all_folders(*, owner: User) -> list[Folder]:
    """Return the owner's live folders in depth-first order, each with its `tree_depth`."""
    rows = Folder.tree.tree_filter(owner=owner, trashed_at__isnull=True).order_siblings_by("name")
    return list(rows[:MOST_FOLDERS])


def tiles(*, owner: User, file_ids: Iterable[object]) -> list[File]:
    """Return the files that are still live, with their thumbnails."""
    keys = [as_uuid(i) for i in file_ids][:MOST_TILES]
    return list(with_thumbnails(File.objects.visible_to(owner).live().filter(pk__in=keys)))


def thumbnail_of(*, owner: User, file_id: UUID, side: int) -> Thumbnail | None:
    """Return a thumbnail of the owner's file, trashed or not, with its blob."""
    rows = Thumbnail.objects.filter(side=side, source__files__pk=file_id, source__files__owner=owner)
    return rows.select_related("blob").first()


def largest_thumbnails(*, blob_ids: Iterable[str]) -> dict[str, Thumbnail]:
    """Return the largest thumbnail of each blob, by the blob's id. One query."""
    rows = Thumbnail.objects.filter(source__in=list(blob_ids), side__in=[THUMBNAIL_SIDE, VIEW_SIDE])
    return {thumbnail.source_id: thumbnail for thumbnail in rows.order_by("side")}


def in_order(rows: Any) -> Any:
    """Annotate rows with `sort_name`, which ignores case."""
    return rows.annotate(sort_name=Lower("name"))


def branches(*, owner: User, parents: Sequence[UUID | None]) -> dict[UUID | None, list[Any]]:
    """Return the folders in each of `parents` by name; `has_more` tells whether one has subfolders."""
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
    """Previous and next file, and the cursor of the page that shows the file (empty: the first page)."""

    before: UUID | None = None
    after: UUID | None = None
    cursor: str = ""


def steps_from(file: File, rows: Any, sort: Sort, *, pinned: Sequence[str] = ()) -> Steps:
    """Return the previous and next file of a listing. `file` may be outside it.

    Args:
        rows: files of the listing, unordered.
        pinned: as in `paginate`.
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
