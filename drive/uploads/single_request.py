"""Small files whose bytes come whole in the request that begins their upload: no part file, one transaction.

What breaks off leaves nothing behind, and is sent again from its start.
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
    """Tell whether a file of `length` bytes, `size` of which come with this request, is taken this way."""
    # What may be there already is looked for before its bytes are read.
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
    """Make a file of the `length` bytes that `source` has, and return its finished upload.

    Returns None, without reading the body, if an upload with this idempotency key has begun before. Then
    `resumable.begin_resumable` returns it.

    Args: as those of `resumable.begin_resumable` and `resumable.append_bytes`.

    Raises:
        TooLarge: the drive has no room for them.
        NotFound: the folder has been trashed.
        WrongChecksum: what came is not what the digest says.
        Invalid: fewer bytes came than were announced, or they are no file that we take.
        Conflict: the key was used for another upload, at this moment.
        RateLimited: too many uploads that replace others, or skip what is there.
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
        # With the file, so that whoever asks again after a crash gets this one and not a second.
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
        # The same request, twice at once.
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
        # The connection broke; nobody may be there to read the answer.
        pass
    if digest is not None:
        digest.update(bytes(data))
        if not digest.agrees():
            raise rules.WrongChecksum(_("The bytes changed on their way. Please send them again."))
    if len(data) < length:
        raise Invalid(_("Fewer bytes came than were announced."), code="too_few_bytes")
    return bytes(data)
