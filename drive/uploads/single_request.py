"""Uploads of small files in one request, without a part file, in one transaction.

An interrupted request stores nothing; the client sends it again from the start.
"""

import io

from django.conf import settings
from django.db import IntegrityError
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.paths import UploadPath
from drive.files.quota import check_kept_uploads
from drive.models import File, Folder, OnConflict, Upload
from drive.uploads import rules
from drive.uploads import services as uploads_services
from drive.uploads.rules import ByteStream, Digest
from ipau.common.errors import Invalid


def is_whole(*, length: int, size: int, on_conflict: OnConflict) -> bool:
    """Return whether a file of `length` bytes, `size` of them in this request, can use `take_whole`."""
    # SKIP checks for an existing file before reading the bytes.
    return 0 < length == size <= settings.FILE_UPLOAD_MAX_MEMORY_SIZE and on_conflict != OnConflict.SKIP


def take_whole(
    *,
    owner: User,
    folder: Folder | None,
    place: UploadPath,
    length: int,
    on_conflict: OnConflict,
    key: str | None,
    source: ByteStream,
    digest: Digest | None = None,
) -> Upload | None:
    """Create a file from `length` bytes of `source`; return its finished upload.

    Returns None, without reading the body, if this idempotency key was used before. Then
    `resumable.begin_resumable` returns its upload.

    Args: as in `resumable.begin_resumable` and `resumable.append_bytes`.

    Raises:
        TooLarge: the drive has no room for the file.
        NotFound: the folder has been trashed.
        WrongChecksum: the bytes do not match the digest.
        Invalid: fewer bytes arrived than announced, or the file is not accepted.
        Conflict: a concurrent request used the key for another upload.
        RateLimited: too many uploads that replace or skip existing files.
    """
    values = {
        "owner": owner,
        "folder": folder,
        "name": place.name,
        "relative_path": place.path,
        "length": length,
        "on_conflict": on_conflict,
    }
    upload = Upload(**values, offset=length, expires_at=timezone.now() + rules.LIFE)
    if key is not None:
        upload.pk = rules.key_of(owner, key)
        if Upload.objects.filter(pk=upload.pk).exists():
            return None
    if on_conflict != OnConflict.KEEP_BOTH:
        check_kept_uploads(owner=owner)
    data = _read(source, length, digest)

    def record(file: File) -> None:
        # In the file's transaction, so that a repeated request after a crash returns the same file.
        upload.file, upload.completed_at = file, timezone.now()
        upload.save(force_insert=True)

    stored, found = uploads_services.store_upload(
        owner=owner, content=io.BytesIO(data), size=length, limit=settings.RESUMABLE_MAX_BYTES
    )
    try:
        uploads_services.add_upload(
            owner=owner,
            folder=folder,
            folders=place.folders,
            name=place.name,
            stored=stored,
            facts=found,
            on_conflict=on_conflict,
            on_created=record,
        )
    except IntegrityError:
        # The same request came twice at the same time.
        earlier = Upload.objects.select_related("file").filter(pk=upload.pk).first()
        if earlier is None:
            raise
        return rules.same_request(earlier, values)
    return upload


def _read(source: ByteStream, length: int, digest: Digest | None) -> bytes:
    data = bytearray()
    try:
        while len(data) < length and (chunk := source.read(min(rules.CHUNK, length - len(data)))):
            data += chunk
    except OSError:
        # The connection broke. The client may not receive the response.
        pass
    if digest is not None:
        digest.update(bytes(data))
        if not digest.matches():
            raise rules.WrongChecksum(_("The bytes do not match Upload-Checksum. Send them again."))
    if len(data) < length:
        raise Invalid(
            _("This request has fewer bytes than Upload-Length announced. Send the file again."),
            code="too_few_bytes",
        )
    return bytes(data)
