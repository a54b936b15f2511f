"""Many files at once, of bytes that workers have made. A file whose name is taken gets a number."""

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
    """A file to create. A worker made its bytes, so no worker inspects it.

    Attributes:
        path: names of the folders below the root, joined by "/"; "" is the root itself.
        sha256: digest of the bytes, which have a row.
        size: bytes.
        width, height: pixels of an image; None for texts.
        thumbnail: bytes of its thumbnail and their longest side in pixels.
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
    """Create files below `root` with the folders that are missing; return them in the order of `new`.

    Call it in a transaction that holds `root` and has registered the bytes. Where files have a path, it must
    have locked the owner's tree too.
    """
    folders = make_folders(root, {one.path for one in new})
    files = [_file(folders[one.path], one) for one in new]
    insert_numbered(files)
    shown = (NewThumbnail(n.sha256, n.thumbnail[1], n.thumbnail[0]) for n in new if n.thumbnail)
    Thumbnail.objects.add_missing(shown)
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
    """Give the files names that are free in the folder: a taken name gets a number."""
    # Only names that begin alike can collide: a folder may hold very many.
    alike = Q()
    for stem in {PurePosixPath(file.name).stem for file in files}:
        alike |= Q(name__startswith=stem[:60])
    here = File.objects.filter(alike, folder=folder).live()
    taken = set(here.values_list("name", flat=True))
    for file in files:
        file.name = free_name(file.name, taken)
        taken.add(file.name)
