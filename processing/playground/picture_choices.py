"""What a person can choose to run an app on: pictures and folders of their drive."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from drive.files.listing import with_thumbnails
from drive.models import File, Folder

PICTURES_SHOWN = 12


@dataclass(frozen=True)
class FolderChoice:
    """A folder with the way to it. `pictures` are its own, `within` those of its sub-folders as well."""

    id: UUID
    path: str
    pictures: int
    within: int

    @property
    def label(self) -> str:
        return f"{self.path} ({count_text(self.pictures)})"

    @property
    def label_within(self) -> str:
        return f"{self.path} ({count_text(self.within)})"


def count_text(number: int) -> str:
    return ngettext("%(n)s picture", "%(n)s pictures", number) % {"n": f"{number:,}"}


def run_text(number: int) -> str:
    """What the button says that runs an app over this many pictures."""
    return ngettext("Run over %(n)s picture", "Run over %(n)s pictures", number) % {"n": f"{number:,}"}


def folders_of(owner: User) -> list[FolderChoice]:
    """Return the owner's folders, each behind the one that it lies in, in two queries."""
    rows = {folder.pk: folder for folder in Folder.objects.visible_to(owner).live()}
    counted = File.objects.filter(owner=owner, folder__isnull=False).runnable().values("folder")
    own = {row["folder"]: row["n"] for row in counted.annotate(n=Count("id")).order_by()}
    within: Counter[UUID] = Counter()
    found = []
    ways = {key: _way_to(folder, rows) for key, folder in rows.items()}
    for key, way in ways.items():
        for above in way:
            within[above.pk] += own.get(key, 0)
    for key, way in ways.items():
        path = " / ".join(folder.name for folder in reversed(way))
        found.append(FolderChoice(key, path, own.get(key, 0), within[key]))
    return sorted(found, key=lambda choice: choice.path.casefold())


def pictures_of(
    owner: User, *, text: str = "", folder: UUID | None = None, first: Iterable[File] = ()
) -> list[File]:
    """Return some pictures of the owner to try an app on: `first`, then the newest.

    Args:
        text: only those with this in their name; without it, results of earlier jobs are left out.
        folder: only those in this folder.
    """
    rows = with_thumbnails(File.objects.visible_to(owner).runnable())
    if text:
        rows = rows.filter(name__icontains=text)
    elif folder:
        rows = rows.filter(folder=folder)
    else:
        rows = rows.filter(made_by__isnull=True)
    found = {file.pk: file for file in first}
    for file in rows.order_by("-id")[:PICTURES_SHOWN]:
        found.setdefault(file.pk, file)
    return list(found.values())[:PICTURES_SHOWN]


def selection_text(*, files: int, folders: int) -> str:
    """Say how much has been chosen: «3 pictures and 1 folder»."""
    parts = []
    if files:
        parts.append(count_text(files))
    if folders:
        parts.append(ngettext("%(n)s folder", "%(n)s folders", folders) % {"n": f"{folders:,}"})
    return _(" and ").join(parts)


def _way_to(folder: Folder, rows: dict[UUID, Folder]) -> list[Folder]:
    """Return the folder and all above it, the topmost last."""
    way: list[Folder] = []
    here: Folder | None = folder
    while here is not None and here not in way:
        way.append(here)
        here = rows.get(here.parent_id) if here.parent_id else None
    return way
