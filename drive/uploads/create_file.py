"""Create a file from an uploaded blob: last step of every upload, in requests and workers."""

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

# Columns that a replaced file takes from the new one.
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
    """Create a file from stored bytes, or apply `on_conflict`; return the file that has the name then.

    A worker inspects it later.

    Args:
        folders: names of folders below `folder`, outermost first. Missing folders are created.
        name: as the client sent it. A suffix is added if it has none.
        facts: the detected type.
        on_conflict: what happens if the name is taken: the new file gets a number, replaces the bytes of the
            existing one, or is dropped.
        on_created: called with the returned file, in the transaction that creates it.

    Raises:
        TooLarge: the drive has no room for the bytes.
        NotFound: the folder has been trashed.
        Invalid: the folders would be nested too deeply, or there would be too many.
        Conflict: another request creates the same folder at the same time.
    """
    # The type has been checked before, so a refused file leaves no empty folders.
    target = folder_at(owner=owner, folder=folder, names=folders)

    def attempt(free: str) -> File:
        # Lock order everywhere: blobs, folder, usage. The caller may have locked the blob already.
        blobs.register([stored])
        hold(target)
        quota.claim_room(owner=owner, size=stored.size)
        new = File.objects.create(
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
        file = _settle_conflict(new, name, on_conflict)
        if on_created is not None:
            on_created(file)
        return file

    here = File.objects.filter(owner=owner, folder=target).live()
    return first_free(upload_name(name, facts.suffix), here, attempt)


def _settle_conflict(new: File, name: str, on_conflict: OnConflict | str) -> File:
    """Apply `on_conflict` if the name of a new file was taken; return the file that remains."""
    if on_conflict == OnConflict.KEEP_BOTH:
        return new
    wanted = upload_name(name, PurePosixPath(new.name).suffix)
    here = File.objects.filter(owner=new.owner, folder=new.folder, name=wanted).live()
    existing = here.exclude(pk=new.pk).select_for_update().first()
    if existing is None:
        return new
    if on_conflict == OnConflict.REPLACE:
        _replace(existing, new)
    new.delete()
    return existing


def _replace(existing: File, new: File) -> None:
    """Point a file to new bytes. It keeps its id, so references to it stay valid."""
    for name in _REPLACED:
        setattr(existing, name, getattr(new, name))
    unclaimed = leases.never_claimed()
    for name, value in unclaimed.items():
        setattr(existing, name, value)
    existing.save(update_fields=[*_REPLACED, *unclaimed, "updated_at"])
