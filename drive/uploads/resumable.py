"""Resumable uploads: begin, append bytes after an interruption, and finish as a file.

The recorded `offset` never exceeds the bytes on disk, and reaches `length` only in the transaction that
creates the file. After a crash the client repeats some bytes; the upload is not lost, and no second file is
created.
"""

import os
import time
from typing import Any, BinaryIO
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.paths import UploadPath
from drive.files.quota import check_kept_uploads, claim_upload, no_room_beside_uploads, usage_of
from drive.models import File, Folder, OnConflict, Upload
from drive.uploads import part_files, s3_multipart
from drive.uploads import services as uploads_services
from drive.uploads.rules import (
    CHUNK,
    CONCAT,
    LIFE,
    PARTIAL,
    ByteStream,
    Digest,
    WrongChecksum,
    cannot_store,
    check_length,
    file_at,
    folder_names_of,
    key_of,
    same_request,
    upload_gone,
)
from ipau.common.errors import Conflict, Invalid, NotFound, TooLarge

# Progress is synced to disk and recorded after this many bytes or seconds.
SAFE_BYTES = 16 * 1024 * 1024
SAFE_SECONDS = 2.0


class WrongOffset(Conflict):
    """The client's offset differs from the server's."""

    code = "wrong_offset"


def get_resumable(*, owner: User, upload_id: UUID) -> Upload:
    """Return an unexpired upload of `owner`. Raises NotFound."""
    rows = Upload.objects.filter(owner=owner, pk=upload_id, expires_at__gt=timezone.now(), multipart_id="")
    upload = rows.select_related("file").first()
    if upload is None:
        raise upload_gone()
    upload.owner = owner
    return upload


def begin_resumable(
    *,
    owner: User,
    folder: Folder | None,
    place: UploadPath,
    length: int,
    on_conflict: OnConflict = OnConflict.KEEP_BOTH,
    key: str | None = None,
) -> Upload:
    """Begin an upload and reserve `length` bytes, before any byte is sent.

    Args:
        folder: destination; None: the top of the drive.
        place: the name, and folders to create below `folder`.
        key: idempotency key; a repeated request returns the upload that the first one began.

    Raises:
        TooLarge: over the limit of one upload, or no room in addition to other unfinished uploads.
        Invalid: `length` is 0.
        Conflict: the key was used for another upload, or too many uploads are unfinished.
    """
    values: dict[str, Any] = {
        "owner": owner,
        "folder": folder,
        "name": place.name,
        "relative_path": place.path,
        "length": length,
        "on_conflict": on_conflict,
        "metadata": {},
    }
    return _begin(values, key)


def begin_part(*, owner: User, length: int, key: str | None = None) -> Upload:
    """Begin a partial upload, which `concatenation` joins later.

    Arguments and errors as `begin_resumable`.
    """
    values = {"owner": owner, "name": PARTIAL, "length": length, "metadata": {CONCAT: PARTIAL}}
    return _begin(values, key)


def _begin(values: dict[str, Any], key: str | None) -> Upload:
    owner: User = values["owner"]
    check_length(values["length"])
    if key is not None and (earlier := Upload.objects.filter(pk=key_of(owner, key)).first()):
        return same_request(earlier, values)
    upload = Upload(**values, expires_at=timezone.now() + LIFE)
    if upload.on_conflict == OnConflict.SKIP and (existing := file_at(upload)):
        upload.offset, upload.completed_at, upload.file = upload.length, timezone.now(), existing
    if key is not None:
        upload.pk = key_of(owner, key)
    try:
        insert_upload(upload)
    except IntegrityError:
        if key is None:
            raise
        return same_request(Upload.objects.get(pk=upload.pk), values)
    return upload


@transaction.atomic
def insert_upload(upload: Upload) -> None:
    """Insert a new upload and reserve room for its bytes. Raises as `claim_upload`."""
    if upload.completed_at is None:
        claim_upload(owner=upload.owner, size=upload.length)
    if upload.on_conflict != OnConflict.KEEP_BOTH:
        check_kept_uploads(owner=upload.owner)
    upload.save(force_insert=True)


def _check_parts(upload: Upload, size: int) -> None:
    """Raise TooLarge if the part files of all uploads would exceed the drive's room.

    Several uploads may have reserved the same room.
    """
    others = Upload.objects.filter(owner=upload.owner, completed_at__isnull=True).exclude(pk=upload.pk)
    held = others.aggregate(total=Sum("offset"))["total"] or 0
    if held + upload.offset + size > usage_of(upload.owner).left:
        raise no_room_beside_uploads()


def append_bytes(
    *, upload: Upload, offset: int, source: ByteStream, size: int, digest: Digest | None = None
) -> Upload:
    """Append `size` bytes at `offset`; the last byte finishes the upload.

    If the source end early or fails, the received bytes are kept, unless there is a digest.

    Returns:
        The updated upload: `completed_at` and `file` are set when it is finished.

    Raises:
        WrongOffset: `offset` is not the number of stored bytes.
        part_files.Busy: another request is writing to the same upload.
        TooLarge: more bytes than announced.
        WrongChecksum: the bytes do not match the digest; none of them is kept.
        Unavailable: the bytes could not be stored.
        Invalid: the complete file is not accepted. The upload is deleted.
    """
    with part_files.writing(upload.pk) as part:
        upload = _current(upload, offset)
        if offset + size > upload.length:
            raise TooLarge(_("This request has more bytes than Upload-Length announced."))
        _check_parts(upload, size)
        reached = _receive(upload, part, offset, source, size, digest)
        if digest is not None and (reached < offset + size or not digest.matches()):
            _record_offset(upload, part, offset)
            raise WrongChecksum(_("The bytes do not match Upload-Checksum. Send them again."))
        # A partial upload waits for the others: see `drive.uploads.concatenation`.
        if reached < upload.length or upload.metadata.get(CONCAT):
            _record_offset(upload, part, reached)
            return upload
        return _finish(upload, part)


def _current(upload: Upload, offset: int) -> Upload:
    """Return the current row, after checking the client's offset. Raises WrongOffset."""
    with transaction.atomic():
        rows = Upload.objects.select_for_update(of=("self",)).select_related("folder")
        row = rows.filter(pk=upload.pk).first()
        if row is None:
            part_files.remove(upload.pk)
            raise upload_gone()
        here = part_files.received(row)
        if here != offset or row.completed_at is not None:
            raise WrongOffset(
                _("This upload continues at byte %(offset)d. Send the bytes from there.") % {"offset": here}
            )
    row.owner = upload.owner
    return row


def _receive(
    upload: Upload, part: BinaryIO, offset: int, source: ByteStream, size: int, digest: Digest | None
) -> int:
    """Copy the received bytes into the part file; return the new offset."""
    part.truncate(offset)
    part.seek(offset)
    end = offset + size
    safe, safe_at = offset, time.monotonic()
    while offset < end:
        try:
            chunk = source.read(min(CHUNK, end - offset))
        except OSError:
            # The connection broke: keep the bytes received so far.
            break
        if not chunk:
            break
        _write(part, chunk)
        offset += len(chunk)
        if digest is not None:
            digest.update(chunk)
        elif offset < upload.length and (
            offset - safe >= SAFE_BYTES or time.monotonic() - safe_at >= SAFE_SECONDS
        ):
            _record_offset(upload, part, offset)
            safe, safe_at = offset, time.monotonic()
    return offset


def _write(part: BinaryIO, chunk: bytes) -> None:
    try:
        part.write(chunk)
    except OSError as error:
        raise cannot_store() from error


def _record_offset(upload: Upload, part: BinaryIO, offset: int) -> None:
    """Sync the first `offset` bytes to disk, then record the offset."""
    try:
        part.flush()
        os.fdatasync(part.fileno())
    except OSError as error:
        raise cannot_store() from error
    now = timezone.now()
    upload.offset, upload.expires_at = offset, now + LIFE
    updated = Upload.objects.filter(pk=upload.pk, completed_at__isnull=True).update(
        offset=offset, expires_at=upload.expires_at, updated_at=now
    )
    if not updated:
        part_files.remove(upload.pk)
        raise upload_gone()


def _finish(upload: Upload, part: BinaryIO) -> Upload:
    """Create the file of a complete upload."""
    try:
        part.flush()
        upload.file = _create_file(upload, part)
        upload.offset, upload.completed_at = upload.length, timezone.now()
    except (Invalid, NotFound, TooLarge):
        # The same bytes would be refused again.
        drop_upload(upload=upload)
        raise
    except Exception:
        # Step back one byte, so that the client sends it again and so retries.
        upload.completed_at = upload.file = None
        _record_offset(upload, part, upload.length - 1)
        raise
    part_files.remove(upload.pk)
    return upload


def _create_file(upload: Upload, part: BinaryIO) -> File:
    """Store the bytes and create the file, applying `on_conflict`."""
    stored, found = uploads_services.store_upload(
        owner=upload.owner, content=part, size=upload.length, limit=settings.RESUMABLE_MAX_BYTES
    )

    def record(file: File) -> None:
        # In the file's transaction, so that a repeated request after a crash returns the same file.
        now = timezone.now()
        updated = Upload.objects.filter(pk=upload.pk, completed_at__isnull=True).update(
            file=file, offset=upload.length, completed_at=now, updated_at=now
        )
        if not updated:
            raise upload_gone()

    return uploads_services.add_upload(
        owner=upload.owner,
        folder=upload.folder,
        folders=folder_names_of(upload),
        name=upload.name,
        stored=stored,
        facts=found,
        on_conflict=upload.on_conflict,
        on_created=record,
    )


def drop_upload(*, upload: Upload) -> None:
    """Delete an upload and its bytes. The file of a finished upload stays."""
    Upload.objects.filter(pk=upload.pk).delete()
    part_files.remove(upload.pk)
    s3_multipart.discard(upload)
