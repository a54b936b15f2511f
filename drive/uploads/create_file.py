"""The end of every upload: stored bytes become a file in a folder. Requests and workers share it."""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

from accounts.models import User
from drive.files import quota
from drive.files.names import upload_name
from drive.files.paths import folder_at
from drive.files.placement import first_free, hold
from drive.formats.detect import DetectedType
from drive.models import File, Folder, OnConflict
from drive.storage import blobs
from drive.storage.blobs import Stored
from ipau.common import leases

# What new bytes bring with them to the file that they go to.
_REPLACED = ("blob_id", "kind", "content_type", "size", "width", "height", "state", "reason", "facts")


def create_file(
    *,
    owner: User,
    folder: Folder | None,
    name: str,
    stored: Stored,
    facts: DetectedType,
    folders: Sequence[str] = (),
    metadata: dict[str, Any] | None = None,
    on_conflict: OnConflict | str = OnConflict.KEEP_BOTH,
    on_created: Callable[[File], None] | None = None,
) -> File:
    """Put stored bytes into a folder and return the file that has the name then. A worker inspects it later.

    Args:
        folders: names of folders below `folder`, the outermost first; those that are missing are made.
        name: as its sender gave it. A suffix is added if it has none.
        facts: what the bytes were recognized as.
        on_conflict: what happens if the name is taken: the new file gets a number, replaces the bytes of the
            existing one, or is dropped.
        on_created: called with the file that is returned, in the transaction that creates it.

    Raises:
        TooLarge: the drive has no room for the bytes.
        NotFound: the folder has been trashed.
        Invalid: the folders would be nested too deeply, or there would be too many.
        Conflict: another request makes the same folder at this moment.
    """
    # The bytes have been recognized by now: what is refused leaves no empty folders.
    target = folder_at(owner=owner, folder=folder, names=folders)

    def attempt(free: str) -> File:
        # In the order in which all others lock them: whoever stored bytes may hold their row already.
        blobs.register([stored])
        hold(target)
        quota.claim_room(owner=owner, size=stored.size)
        made = File.objects.create(
            owner=owner,
            folder=target,
            name=free,
            blob_id=stored.sha256,
            kind=facts.kind,
            content_type=stored.content_type,
            size=stored.size,
            width=facts.width,
            height=facts.height,
            metadata=metadata or {},
        )
        file = _settle_conflict(made, name, on_conflict)
        if on_created is not None:
            on_created(file)
        return file

    here = File.objects.filter(owner=owner, folder=target).live()
    return first_free(upload_name(name, facts.suffix), here, attempt)


def _settle_conflict(made: File, name: str, on_conflict: OnConflict | str) -> File:
    """Apply `on_conflict` if the name of a new file was taken; return the file that remains."""
    if on_conflict == OnConflict.KEEP_BOTH:
        return made
    wanted = upload_name(name, PurePosixPath(made.name).suffix)
    here = File.objects.filter(owner=made.owner, folder=made.folder, name=wanted).live()
    there = here.exclude(pk=made.pk).select_for_update().first()
    if there is None:
        return made
    if on_conflict == OnConflict.REPLACE:
        _replace(there, made)
    made.delete()
    return there


def _replace(there: File, made: File) -> None:
    """Point a file to new bytes. It stays the same file: what refers to it goes on doing so."""
    for name in _REPLACED:
        setattr(there, name, getattr(made, name))
    unclaimed = leases.never_claimed()
    for name, value in unclaimed.items():
        setattr(there, name, value)
    there.save(update_fields=[*_REPLACED, *unclaimed, "updated_at"])
