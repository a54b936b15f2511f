"""Resumable uploads: begun, continued from wherever they broke off, and finished as a file of the drive.

`offset` in the row never runs ahead of the disk, and reaches `length` only together with the finished file: a
crash at any point costs its sender some bytes to send again, never the upload and never a second file.
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
    key_of,
    same_request,
    upload_gone,
    ways_of,
)
from ipau.common.errors import Conflict, Invalid, NotFound, TooLarge

# How much a killed server may lose: progress is made safe after so many bytes or seconds.
SAFE_BYTES = 16 * 1024 * 1024
SAFE_SECONDS = 2.0


class WrongOffset(Conflict):
    """The sender goes on where we are not."""

    code = "wrong_offset"


def get_resumable(*, owner: User, upload_id: UUID) -> Upload:
    """Return an upload of `owner` whose time is not over. Raises NotFound."""
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
    """Make room for an upload of `length` bytes; refuse it before they are sent.

    Args:
        folder: where it goes; None is the top of the drive.
        place: the name, and the folders to be made below `folder`.
        key: names this request, so that a repeated one returns what the first one began.

    Raises:
        TooLarge: more than one upload may have, or than the drive has room for beside other uploads.
        Invalid: there is nothing in it.
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
    """Make room for a part of a file, which is put together later.

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
    if upload.on_conflict == OnConflict.SKIP and (there := file_at(upload)):
        upload.offset, upload.completed_at, upload.file = upload.length, timezone.now(), there
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
    """Insert a new upload and promise room to bytes that are still to come. Raises as `claim_upload`."""
    if upload.completed_at is None:
        claim_upload(owner=upload.owner, size=upload.length)
    if upload.on_conflict != OnConflict.KEEP_BOTH:
        check_kept_uploads(owner=upload.owner)
    upload.save(force_insert=True)


def _check_parts(upload: Upload, size: int) -> None:
    """Raise TooLarge where part files would hold more than the drive has room for: many uploads may each have
    been promised the same room."""
    others = Upload.objects.filter(owner=upload.owner, completed_at__isnull=True).exclude(pk=upload.pk)
    held = others.aggregate(total=Sum("offset"))["total"] or 0
    if held + upload.offset + size > usage_of(upload.owner).left:
        raise no_room_beside_uploads()


def append_bytes(
    *, upload: Upload, offset: int, source: ByteStream, size: int, digest: Digest | None = None
) -> Upload:
    """Write `size` bytes behind the first `offset` ones; the last of all finishes the upload.

    Where the source ends early or breaks, what came of it is kept. With a digest it is all or nothing.

    Returns:
        The upload as it is now: `completed_at` and `file` are set when it is finished.

    Raises:
        WrongOffset: the sender goes on somewhere else than where we are.
        part_files.Busy: another request is writing to the same upload.
        TooLarge: more bytes than were announced.
        WrongChecksum: what came is not what the digest says; nothing of it is kept.
        Unavailable: the bytes could not be stored.
        Invalid: all bytes are there, and are no file that we take. The upload is gone then.
    """
    with part_files.writing(upload.pk) as part:
        upload = _current(upload, offset)
        if offset + size > upload.length:
            raise TooLarge(_("More bytes than were announced."))
        _check_parts(upload, size)
        reached = _receive(upload, part, offset, source, size, digest)
        if digest is not None and (reached < offset + size or not digest.agrees()):
            _note(upload, part, offset)
            raise WrongChecksum(_("The bytes changed on their way. Please send them again."))
        # A part of a file waits for the others: see `drive.uploads.concatenation`.
        if reached < upload.length or upload.metadata.get(CONCAT):
            _note(upload, part, reached)
            return upload
        return _finish(upload, part)


def _current(upload: Upload, offset: int) -> Upload:
    """Return the row as it is now, having seen that its sender goes on where we are."""
    with transaction.atomic():
        rows = Upload.objects.select_for_update(of=("self",)).select_related("folder")
        row = rows.filter(pk=upload.pk).first()
        if row is None:
            part_files.remove(upload.pk)
            raise upload_gone()
        here = part_files.received(row)
        if here != offset or row.completed_at is not None:
            raise WrongOffset(_("This upload goes on at byte %(offset)d.") % {"offset": here})
    row.owner = upload.owner
    return row


def _receive(
    upload: Upload, part: BinaryIO, offset: int, source: ByteStream, size: int, digest: Digest | None
) -> int:
    """Copy what comes into the part file, and return how far it reaches."""
    part.truncate(offset)
    part.seek(offset)
    ends = offset + size
    safe, safe_at = offset, time.monotonic()
    while offset < ends:
        try:
            chunk = source.read(min(CHUNK, ends - offset))
        except OSError:
            # The connection broke: what came before stays.
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
            _note(upload, part, offset)
            safe, safe_at = offset, time.monotonic()
    return offset


def _write(part: BinaryIO, chunk: bytes) -> None:
    try:
        part.write(chunk)
    except OSError as error:
        raise cannot_store() from error


def _note(upload: Upload, part: BinaryIO, offset: int) -> None:
    """Make the first `offset` bytes safe, then write down that they are."""
    try:
        part.flush()
        os.fdatasync(part.fileno())
    except OSError as error:
        raise cannot_store() from error
    now = timezone.now()
    upload.offset, upload.expires_at = offset, now + LIFE
    kept = Upload.objects.filter(pk=upload.pk, completed_at__isnull=True).update(
        offset=offset, expires_at=upload.expires_at, updated_at=now
    )
    if not kept:
        part_files.remove(upload.pk)
        raise upload_gone()


def _finish(upload: Upload, part: BinaryIO) -> Upload:
    """Make the file of an upload whose bytes are all there."""
    try:
        part.flush()
        upload.file = _take(upload, part)
        upload.offset, upload.completed_at = upload.length, timezone.now()
    except (Invalid, NotFound, TooLarge):
        # Sending the same again would end the same.
        drop_upload(upload=upload)
        raise
    except Exception:
        # Its sender finds one byte missing, and by sending it tries again.
        upload.completed_at = upload.file = None
        _note(upload, part, upload.length - 1)
        raise
    part_files.remove(upload.pk)
    return upload


def _take(upload: Upload, part: BinaryIO) -> File:
    """Put the bytes into the drive, doing with a taken name what was asked for."""
    stored, found = uploads_services.store_upload(
        owner=upload.owner, content=part, size=upload.length, limit=settings.RESUMABLE_MAX_BYTES
    )

    def record(file: File) -> None:
        # With the file, so that whoever asks again after a crash gets this one and not a second.
        now = timezone.now()
        kept = Upload.objects.filter(pk=upload.pk, completed_at__isnull=True).update(
            file=file, offset=upload.length, completed_at=now, updated_at=now
        )
        if not kept:
            raise upload_gone()

    return uploads_services.add_upload(
        owner=upload.owner,
        folder=upload.folder,
        folders=ways_of(upload),
        name=upload.name,
        stored=stored,
        facts=found,
        on_conflict=upload.on_conflict,
        on_created=record,
    )


def drop_upload(*, upload: Upload) -> None:
    """Forget an upload and its bytes. The file of a finished one stays."""
    Upload.objects.filter(pk=upload.pk).delete()
    part_files.remove(upload.pk)
    s3_multipart.discard(upload)
