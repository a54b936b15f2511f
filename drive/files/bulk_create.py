"""Create result files in bulk. A taken name gets a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from django.db import IntegrityError, transaction
from django.db.models import Q

from drive.files.folder_tree import make_folders
from drive.files.names import free_name
from drive.models import File, FileKind, FileState, Folder, NewThumbnail, Thumbnail

# Retries when another request takes the same name at the same time.
NAME_ATTEMPTS = 5


@dataclass(frozen=True)
class NewFile:
    """A file to create from a worker's output. It needs no inspection.

    Attributes:
        path: folder names below the root, joined by "/"; "" is the root itself.
        sha256: digest of a registered blob.
        size: bytes.
        width, height: pixels of an image; None for texts.
        thumbnail: digest of the thumbnail and its longest side in pixels.
    """

    path: str
    name: str
    sha256: str
    content_type: str
    size: int
    width: int | None = None
    height: int | None = None
    thumbnail: tuple[str, int] | None = None


def create_files(root: Folder, new: Sequence[NewFile]) -> list[File]:
    """Create files and missing folders below `root`; return the files in the order of `new`.

    Call it in a transaction that holds `root` and has registered the blobs. If files have a path, it must
    have locked the owner's tree too.
    """
    folders = make_folders(root, {one.path for one in new})
    files = [_file(folders[one.path], one) for one in new]
    insert_numbered(files)
    thumbnails = (NewThumbnail(n.sha256, n.thumbnail[1], n.thumbnail[0]) for n in new if n.thumbnail)
    Thumbnail.objects.add_missing(thumbnails)
    return files


def _file(folder: Folder, new: NewFile) -> File:
    return File(
        owner_id=folder.owner_id,
        folder=folder,
        name=new.name,
        blob_id=new.sha256,
        kind=FileKind.PICTURE if new.width else FileKind.TEXT,
        content_type=new.content_type,
        size=new.size,
        width=new.width,
        height=new.height,
        state=FileState.READY,
    )


def insert_numbered(files: list[File]) -> None:
    """Create the files. A file gets a number if its name has been taken in the meantime."""
    for _ in range(NAME_ATTEMPTS - 1):
        try:
            with transaction.atomic():
                File.objects.bulk_create(files)
        except IntegrityError:
            for folder in {file.folder for file in files}:
                _number_names(folder, [file for file in files if file.folder == folder])
        else:
            return
    File.objects.bulk_create(files)


def _number_names(folder: Folder | None, files: list[File]) -> None:
    """Number the names that are taken in the folder."""
    # Only names with the same prefix can collide, and a folder may hold very many names.
    alike = Q()
    for stem in {PurePosixPath(file.name).stem for file in files}:
        alike |= Q(name__startswith=stem[:60])
    here = File.objects.filter(alike, folder=folder).live()
    taken = set(here.values_list("name", flat=True))
    for file in files:
        file.name = free_name(file.name, taken)
        taken.add(file.name)
