"""The folders of results, for jobs that keep those in which their pictures lie."""

from collections.abc import Collection, Sequence
from uuid import UUID

from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.placement import lock_tree
from drive.files.services import MAX_DEPTH, Selection, ancestors_of
from drive.models import File, Folder
from ipau.common.errors import Invalid
from processing.models import Item, Job

# What the database keeps of a way.
MAX_LENGTH = 2000


def ways_of(*, owner: User, chosen: Selection, files: Sequence[File]) -> dict[UUID, str]:
    """Return each file's way through the folders that were chosen: «Summer/Beach»; nothing for one by itself.

    It begins with the outermost chosen folder above the file. One query, however many files and folders.
    """
    roots = {folder.pk for folder in chosen.folders}
    singles = {file.pk for file in chosen.files}
    rows = Folder.objects.visible_to(owner).live().values_list("pk", "parent_id", "name")
    known = {pk: (parent, name) for pk, parent, name in rows}
    ways: dict[UUID | None, str] = {None: ""}

    def way_to(folder: UUID | None) -> str:
        if folder is not None and folder not in ways:
            parent, name = known.get(folder, (None, ""))
            above = way_to(parent)
            ways[folder] = f"{above}/{name}" if above else name if folder in roots else ""
        return ways[folder]

    return {file.pk: "" if file.pk in singles else way_to(file.folder_id) for file in files}


def check_ways(ways: Collection[str], *, below: Folder | None) -> None:
    """Refuse ways that lead too deep below the folder of the results (None: a new one at the top).

    Raises:
        Invalid: one of them does, or is too long.
    """
    deepest = max((len(way.split("/")) for way in ways if way), default=0)
    if deepest and deepest + max(1, len(ancestors_of(below))) > MAX_DEPTH:
        text = _("The folders of these pictures lie too deep to be kept: %(most)d at most.")
        raise Invalid(text % {"most": MAX_DEPTH}, code="too_deep")
    if any(len(way) > MAX_LENGTH for way in ways):
        raise Invalid(_("The names of these folders are too long to be kept."), code="bad_path")


def ways_again(job: Job) -> dict[UUID, str]:
    """Return the ways that an earlier job kept, by the file's id."""
    rows = Item.objects.filter(job=job, input_file__isnull=False)
    return dict(rows.values_list("input_file", "folder_path"))


def hold_tree(job: Job, ways: Collection[str]) -> None:
    """Lock the tree of the job's owner where results go to folders below the job's."""
    if any(ways):
        lock_tree(job.owner)
