"""Making files of bytes that lie in the storage: what requests and workers share."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from accounts.models import User
from drive.files import quota
from drive.files.names import upload_name
from drive.files.placement import first_free, hold
from drive.formats.detect import DetectedType
from drive.models import File, Folder, OnConflict
from drive.storage import blobs
from drive.storage.blobs import Stored
from ipau.common import leases

# What new bytes bring with them to the file that they go to.
_REPLACED = ("blob_id", "kind", "content_type", "size", "width", "height", "state", "reason", "facts")


def add_file(
    *,
    owner: User,
    folder: Folder | None,
    name: str,
    stored: Stored,
    facts: DetectedType,
    metadata: dict[str, Any] | None = None,
    then: Callable[[File], File] | None = None,
) -> File:
    """Put stored bytes into a folder; a taken name gets a number. A worker has yet to look at them.

    Args:
        then: called with the new file, in its transaction; gives the file that there is in the end.

    Raises:
        TooLarge: the drive has no room for them.
        NotFound: the folder has been trashed.
    """

    def attempt(free: str) -> File:
        # In the order in which all others lock them: whoever stored bytes may hold their row already.
        blobs.register([stored])
        hold(folder)
        quota.claim_room(owner=owner, size=stored.size)
        made = File.objects.create(
            owner=owner,
            folder=folder,
            name=free,
            blob_id=stored.sha256,
            kind=facts.kind,
            content_type=stored.content_type,
            size=stored.size,
            width=facts.width,
            height=facts.height,
            metadata=metadata or {},
        )
        return then(made) if then else made

    here = File.objects.filter(owner=owner, folder=folder).live()
    return first_free(upload_name(name, facts.suffix), here, attempt)


def settle_conflict(*, made: File, name: str, on_conflict: OnConflict | str) -> File:
    """Do what was asked for where the name of a new file was taken; return the file that there is now.

    Call it in the transaction that made the file.

    Args:
        name: as its sender told it.
    """
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
