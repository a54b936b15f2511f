"""Search of files and folders by name, type, date and star, in the whole drive or below one folder."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db.models import TextChoices
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from drive.files.listing import TILES, Sort, in_order, with_thumbnails
from drive.files.tree import Tree
from drive.models import File, Folder
from ipau.common.paging import Page, paginate


class When(TextChoices):
    """When a file or folder was added."""

    TODAY = "today", _("Today")
    WEEK = "week", _("Last 7 days")
    MONTH = "month", _("Last 30 days")
    YEAR = "year", _("Last year")
    RANGE = "range", _("Between two days")


_DAYS = {When.TODAY: 1, When.WEEK: 7, When.MONTH: 30, When.YEAR: 365}


@dataclass(frozen=True)
class Filters:
    """Search filters. Empty fields match everything; `first` and `last` are days, both included."""

    text: str = ""
    kind: str = ""
    when: str = ""
    first: date | None = None
    last: date | None = None
    # None: the whole drive. See `below`.
    within: frozenset[UUID] | None = None
    starred: bool = False

    def __bool__(self) -> bool:
        return bool(self.text or self.kind or self.when or self.starred)


def below(folder: Folder) -> frozenset[UUID]:
    """Return the ids of the folder and all folders below it, for `Filters.within`."""
    return frozenset(Tree.of(folder.owner_id).descendants([folder.pk]))


def find_files(*, owner: User, filters: Filters, sort: Sort, cursor: str | None) -> Page[File]:
    """Return a page of the matching live files."""
    rows = with_thumbnails(matching_files(owner=owner, filters=filters))
    return paginate(in_order(rows), order=sort.files, size=TILES, cursor=cursor)


def matching_files(*, owner: User, filters: Filters) -> Any:
    """Return the matching live files, unordered."""
    rows = _matching(File.objects.visible_to(owner).live(), filters)
    if filters.kind:
        rows = rows.filter(kind=filters.kind)
    if filters.starred:
        rows = rows.filter(starred=True)
    if filters.within:
        rows = rows.filter(folder__in=filters.within)
    return rows


def find_folders(*, owner: User, filters: Filters, sort: Sort, cursor: str | None) -> Page[Folder]:
    """Return a page of the matching live folders. Folders have neither type nor star."""
    rows = _matching(Folder.objects.visible_to(owner).live(), filters)
    if filters.kind or filters.starred:
        rows = rows.none()
    if filters.within:
        rows = rows.filter(parent__in=filters.within)
    return paginate(in_order(rows), order=sort.folders, size=TILES, cursor=cursor)


def _matching(rows: Any, filters: Filters) -> Any:
    since, until = _span(filters)
    if filters.text:
        rows = rows.filter(name__icontains=filters.text)
    if since:
        rows = rows.filter(created_at__gte=since)
    if until:
        rows = rows.filter(created_at__lt=until)
    return rows


def _span(filters: Filters) -> tuple[datetime | None, datetime | None]:
    """Return start and end of the dates; days begin at midnight in the current time zone."""
    if filters.when == When.RANGE:
        after = filters.last + timedelta(days=1) if filters.last and filters.last < date.max else None
        return _midnight(filters.first), _midnight(after)
    days = _DAYS.get(When(filters.when)) if filters.when else None
    return (_midnight(timezone.localdate() - timedelta(days=days - 1)) if days else None), None


def _midnight(day: date | None) -> datetime | None:
    # The first and last days of the calendar cannot be converted to other time zones.
    if day is None or not date.min + timedelta(days=2) < day < date.max - timedelta(days=2):
        return None
    return timezone.make_aware(datetime.combine(day, time.min))
