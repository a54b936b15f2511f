"""Shared parameters of the lists of files and folders: trashed, name filter, order, folder or `top`."""

from collections.abc import Mapping
from typing import Any

from django.db.models import F

from accounts.models import User
from drive.files import services
from drive.files.listing import NEWEST, SORTS, Sort, in_order
from drive.models import Folder
from drive.serializers.drive import TOP

_LATEST_FIRST = Sort("trashed", "", ("-trashed_at", "-id"), ("-trashed_at", "-id"))


def filter_rows(rows: Any, query: Mapping[str, Any]) -> Any:
    """Filter the owner's `rows` by `trashed` and `q`, and annotate them for sorting."""
    rows = rows.filter(trash_root=F("pk")) if query["trashed"] else rows.live()
    if "q" in query:
        rows = rows.filter(name__icontains=query["q"])
    return in_order(rows)


def order_of(query: Mapping[str, Any]) -> Sort:
    """Return the requested sort order; the default is latest first."""
    if "order" in query:
        return SORTS[query["order"]]
    return _LATEST_FIRST if query["trashed"] else NEWEST


def folder_or_top(owner: User, folder_id: object) -> Folder | None:
    """Return the folder with this id; None for `top` or None. Raises NotFound."""
    return None if folder_id in (TOP, None) else services.get_folder(owner=owner, folder_id=folder_id)
