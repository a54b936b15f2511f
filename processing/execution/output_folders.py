"""Output folders of jobs that keep the folder structure of their images."""

from collections.abc import Collection, Sequence
from uuid import UUID

from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.placement import lock_tree
from drive.files.services import MAX_DEPTH, Selection, ancestors_of
from drive.models import File, Folder
from ipau.common.errors import Invalid
from processing.models import Item, Job

# Characters of a path in the database.
MAX_LENGTH = 2000


def folder_paths(*, owner: User, chosen: Selection, files: Sequence[File]) -> dict[UUID, str]:
    """Return the folder path of each file below the selection, by file id, such as «Summer/Beach».

    A path starts at the outermost chosen folder. It is empty for files that were chosen one by one. Costs one
    query.
    """
    roots = {folder.pk for folder in chosen.folders}
    singles = {file.pk for file in chosen.files}
    rows = Folder.objects.visible_to(owner).live().values_list("pk", "parent_id", "name")
    known = {pk: (parent, name) for pk, parent, name in rows}
    paths: dict[UUID | None, str] = {None: ""}

    def path_of(folder: UUID | None) -> str:
        if folder is not None and folder not in paths:
            parent, name = known.get(folder, (None, ""))
            above = path_of(parent)
            paths[folder] = f"{above}/{name}" if above else name if folder in roots else ""
        return paths[folder]

    return {file.pk: "" if file.pk in singles else path_of(file.folder_id) for file in files}


def check_folder_paths(paths: Collection[str], *, below: Folder | None) -> None:
    """Check that paths fit below the output folder (None: a new one at the top level).

    Raises:
        Invalid: a path is too deep or too long.
    """
    deepest = max((len(path.split("/")) for path in paths if path), default=0)
    if deepest and deepest + max(1, len(ancestors_of(below))) > MAX_DEPTH:
        text = _("The folders of these images are nested too deeply to be kept: at most %(most)d levels.")
        raise Invalid(text % {"most": MAX_DEPTH}, code="too_deep")
    if any(len(path) > MAX_LENGTH for path in paths):
        raise Invalid(_("The paths of these folders are too long to be kept."), code="bad_path")


def earlier_folder_paths(job: Job) -> dict[UUID, str]:
    """Return the folder paths of an earlier job, by file id."""
    rows = Item.objects.filter(job=job, input_file__isnull=False)
    return dict(rows.values_list("input_file", "folder_path"))


def lock_folder_tree(job: Job, paths: Collection[str]) -> None:
    """Lock the owner's folder tree if results go to folders below the job's folder."""
    if any(paths):
        lock_tree(job.owner)
