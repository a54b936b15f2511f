"""Finding files and folders again: by name, type, date and star, in the whole drive or below one folder."""

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
    """How long ago something was added."""

    TODAY = "today", _("Today")
    WEEK = "week", _("Last 7 days")
    MONTH = "month", _("Last 30 days")
    YEAR = "year", _("Last year")
    RANGE = "range", _("Between two days")


_DAYS = {When.TODAY: 1, When.WEEK: 7, When.MONTH: 30, When.YEAR: 365}


@dataclass(frozen=True)
class Wanted:
    """What somebody looks for. Empty fields ask for nothing; `first` and `last` are days, both included."""

    text: str = ""
    kind: str = ""
    when: str = ""
    first: date | None = None
    last: date | None = None
    # None: look in the whole drive. See `below`.
    within: frozenset[UUID] | None = None
    starred: bool = False

    def __bool__(self) -> bool:
        return bool(self.text or self.kind or self.when or self.starred)


def below(folder: Folder) -> frozenset[UUID]:
    """Return the folder and all folders below it, as `Wanted.within` takes them."""
    return frozenset(Tree.of(folder.owner_id).inside([folder.pk]))


def find_files(*, owner: User, wanted: Wanted, sort: Sort, cursor: str | None) -> Page[File]:
    """Return a page of the live files that fit."""
    rows = with_thumbnails(fitting_files(owner=owner, wanted=wanted))
    return paginate(in_order(rows), order=sort.files, size=TILES, cursor=cursor)


def fitting_files(*, owner: User, wanted: Wanted) -> Any:
    """Return the live files that fit, in no order."""
    rows = _fitting(File.objects.visible_to(owner).live(), wanted)
    if wanted.kind:
        rows = rows.filter(kind=wanted.kind)
    if wanted.starred:
        rows = rows.filter(starred=True)
    if wanted.within:
        rows = rows.filter(folder__in=wanted.within)
    return rows


def find_folders(*, owner: User, wanted: Wanted, sort: Sort, cursor: str | None) -> Page[Folder]:
    """Return a page of the live folders that fit. Folders have neither type nor star."""
    rows = _fitting(Folder.objects.visible_to(owner).live(), wanted)
    if wanted.kind or wanted.starred:
        rows = rows.none()
    if wanted.within:
        rows = rows.filter(parent__in=wanted.within)
    return paginate(in_order(rows), order=sort.folders, size=TILES, cursor=cursor)


def _fitting(rows: Any, wanted: Wanted) -> Any:
    since, until = _span(wanted)
    if wanted.text:
        rows = rows.filter(name__icontains=wanted.text)
    if since:
        rows = rows.filter(created_at__gte=since)
    if until:
        rows = rows.filter(created_at__lt=until)
    return rows


def _span(wanted: Wanted) -> tuple[datetime | None, datetime | None]:
    """Return from when on and up to when; days begin at midnight where the person is."""
    if wanted.when == When.RANGE:
        after = wanted.last + timedelta(days=1) if wanted.last and wanted.last < date.max else None
        return _midnight(wanted.first), _midnight(after)
    days = _DAYS.get(When(wanted.when)) if wanted.when else None
    return (_midnight(timezone.localdate() - timedelta(days=days - 1)) if days else None), None


def _midnight(day: date | None) -> datetime | None:
    # The calendar's outermost days have no time zone's midnight.
    if day is None or not date.min + timedelta(days=2) < day < date.max - timedelta(days=2):
        return None
    return timezone.make_aware(datetime.combine(day, time.min))
