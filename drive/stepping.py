"""From one file to the next in the order of a listing, and back to where it stands there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from drive.listing import TILES, Sort, in_order
from drive.models import File
from ipau.common.paging import cursor_after, cursor_before, paginate

# A page of the listing that begins for the sake of one file shows so many others before it.
LEAD = 20


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
