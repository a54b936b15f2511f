"""Images and folders of a drive that an app can run on, as choices of a page."""

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
    """A folder with its path. `pictures`: images directly in it. `total`: also those in subfolders."""

    id: UUID
    path: str
    pictures: int
    total: int

    @property
    def label(self) -> str:
        return f"{self.path} ({count_text(self.pictures)})"

    @property
    def label_total(self) -> str:
        return f"{self.path} ({count_text(self.total)})"


def count_text(number: int) -> str:
    return ngettext("%(n)s image", "%(n)s images", number) % {"n": f"{number:,}"}


def run_text(number: int) -> str:
    """Return the label of the button that runs an app on this many images."""
    return ngettext("Run on %(n)s image", "Run on %(n)s images", number) % {"n": f"{number:,}"}


def folders_of(owner: User) -> list[FolderChoice]:
    """Return the folders of the owner, each after its parent, in two queries."""
    rows = {folder.pk: folder for folder in Folder.objects.visible_to(owner).live()}
    counted = File.objects.filter(owner=owner, folder__isnull=False).runnable().values("folder")
    own = {row["folder"]: row["n"] for row in counted.annotate(n=Count("id")).order_by()}
    total: Counter[UUID] = Counter()
    choices = []
    ancestors = {key: _ancestors_of(folder, rows) for key, folder in rows.items()}
    for key, chain in ancestors.items():
        for above in chain:
            total[above.pk] += own.get(key, 0)
    for key, chain in ancestors.items():
        path = " / ".join(folder.name for folder in reversed(chain))
        choices.append(FolderChoice(key, path, own.get(key, 0), total[key]))
    return sorted(choices, key=lambda choice: choice.path.casefold())


def pictures_of(
    owner: User, *, text: str = "", folder: UUID | None = None, first: Iterable[File] = ()
) -> list[File]:
    """Return images of the owner to try an app on: `first`, then the newest.

    Args:
        text: part of the file name. Without it, results of jobs are excluded.
        folder: return only images of this folder.
    """
    rows = with_thumbnails(File.objects.visible_to(owner).runnable())
    if text:
        rows = rows.filter(name__icontains=text)
    elif folder:
        rows = rows.filter(folder=folder)
    else:
        rows = rows.filter(made_by__isnull=True)
    files = {file.pk: file for file in first}
    for file in rows.order_by("-id")[:PICTURES_SHOWN]:
        files.setdefault(file.pk, file)
    return list(files.values())[:PICTURES_SHOWN]


def selection_text(*, files: int, folders: int) -> str:
    """Return the size of a selection as text: «3 images and 1 folder»."""
    parts = []
    if files:
        parts.append(count_text(files))
    if folders:
        parts.append(ngettext("%(n)s folder", "%(n)s folders", folders) % {"n": f"{folders:,}"})
    return _(" and ").join(parts)


def _ancestors_of(folder: Folder, rows: dict[UUID, Folder]) -> list[Folder]:
    """Return the folder and its ancestors, topmost last."""
    chain: list[Folder] = []
    current: Folder | None = folder
    while current is not None and current not in chain:
        chain.append(current)
        current = rows.get(current.parent_id) if current.parent_id else None
    return chain
