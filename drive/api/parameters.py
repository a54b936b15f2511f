"""What the lists of files and of folders have in common: live or trashed, by name, in an order."""

from collections.abc import Mapping
from typing import Any

from django.db.models import F

from accounts.models import User
from drive.files import services
from drive.files.listing import NEWEST, SORTS, Sort, in_order
from drive.models import Folder
from drive.serializers.drive import TOP

_LATEST_FIRST = Sort("trashed", "", ("-trashed_at", "-id"), ("-trashed_at", "-id"))


def listed(rows: Any, asked: Mapping[str, Any]) -> Any:
    """Return those of the owner's `rows` that a list is asked for, ready to be put in its order."""
    rows = rows.filter(trash_root=F("pk")) if asked["trashed"] else rows.live()
    if "q" in asked:
        rows = rows.filter(name__icontains=asked["q"])
    return in_order(rows)


def order_of(asked: Mapping[str, Any]) -> Sort:
    """Return the order that a list is asked for; without one, the latest come first."""
    if "order" in asked:
        return SORTS[asked["order"]]
    return _LATEST_FIRST if asked["trashed"] else NEWEST


def folder_or_top(owner: User, told: object) -> Folder | None:
    """Return the folder of this id; None for `top` or nothing. Raises NotFound."""
    return None if told in (TOP, None) else services.get_folder(owner=owner, folder_id=told)
