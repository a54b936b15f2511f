"""Many files at once in one folder, under names that are free: copies are numbered."""

from pathlib import PurePosixPath

from django.db import IntegrityError, transaction
from django.db.models import Q

from drive.files.names import free_name
from drive.models import File, Folder

# Retries when another request takes the same name at the same time.
NAME_ATTEMPTS = 5


def insert_numbered(files: list[File]) -> None:
    """Create the files. A file gets a number if its name has been taken in the meantime."""
    for _ in range(NAME_ATTEMPTS - 1):
        try:
            with transaction.atomic():
                File.objects.bulk_create(files)
        except IntegrityError:
            for folder in {file.folder for file in files}:
                number_names(folder, [file for file in files if file.folder == folder])
        else:
            return
    File.objects.bulk_create(files)


def number_names(folder: Folder | None, files: list[File]) -> None:
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
