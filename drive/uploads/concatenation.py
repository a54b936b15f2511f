"""Files whose parts come as uploads of their own, several at a time (tus: concatenation).

A partial upload never becomes a file by itself. Like any unfinished upload it takes room in the drive, counts
among those that its owner has begun, and expires. The final upload makes one file of its parts, and they are
gone with it. A repeated request, after an answer that was lost, finds what the first one made.
"""

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID, uuid5

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from drive.files.paths import UploadPath
from drive.files.quota import check_kept_uploads
from drive.models import File, Folder, OnConflict, Upload
from drive.uploads import part_files, resumable, rules
from drive.uploads import services as uploads_services
from drive.uploads.rules import CONCAT, PARTIAL
from ipau.common.errors import Conflict, Invalid, NotFound

FINAL = "final"


def concat_of(upload: Upload) -> str:
    """Return what HEAD tells as Upload-Concat; nothing for an ordinary upload."""
    return str(upload.metadata.get(CONCAT, ""))


def is_partial(upload: Upload) -> bool:
    """Tell whether an upload is a part of a file."""
    return concat_of(upload) == PARTIAL


def concatenate(
    *,
    owner: User,
    folder: Folder | None,
    place: UploadPath,
    part_ids: Sequence[UUID],
    told: str,
    on_conflict: OnConflict = OnConflict.KEEP_BOTH,
    key: str | None = None,
) -> Upload:
    """Make one file of partial uploads that have come whole, in this order; return its finished upload.

    Args:
        told: what HEAD tells as Upload-Concat from now on.
        folder, place, on_conflict, key: as those of `resumable.begin_resumable`.

    Raises:
        NotFound: one of them does not exist, or is somebody else's; or the folder has been trashed.
        Conflict: one of them is no partial upload, or not whole yet; or the key was used for another upload.
        TooLarge: more bytes than a file may have, or than the drive has room for.
        Invalid: what they make is no file that we take. They are gone then.
    """
    values = {
        "owner": owner,
        "folder": folder,
        "name": place.name,
        "relative_path": place.path,
        "on_conflict": on_conflict,
        "metadata": {CONCAT: told},
    }
    upload_id = rules.key_of(owner, key) if key is not None else _id_of(owner, part_ids)
    if earlier := _finished(upload_id):
        return rules.same_request(earlier, values)
    found = _whole_parts(owner, part_ids)
    length = sum(part.length for part in found)
    rules.check_length(length)
    upload = Upload(
        **values, pk=upload_id, length=length, offset=length, expires_at=timezone.now() + rules.LIFE
    )
    if on_conflict != OnConflict.KEEP_BOTH:
        check_kept_uploads(owner=owner)
    try:
        _make(upload, place, found)
    except IntegrityError:
        # The same request, twice at once.
        earlier = _finished(upload_id)
        if earlier is None:
            raise
        return rules.same_request(earlier, values)
    for part in found:
        part_files.remove(part.pk)
    return upload


def _id_of(owner: User, part_ids: Sequence[UUID]) -> UUID:
    return uuid5(uuid5(owner.pk, CONCAT), " ".join(map(str, part_ids)))


def _finished(upload_id: UUID) -> Upload | None:
    return Upload.objects.select_related("file").filter(pk=upload_id).first()


def _whole_parts(owner: User, part_ids: Sequence[UUID]) -> list[Upload]:
    """Return the uploads in the order of their ids. Raises NotFound, Conflict."""
    rows = Upload.objects.filter(
        owner=owner, pk__in=part_ids, expires_at__gt=timezone.now(), multipart_id="", completed_at=None
    )
    found = {row.pk: row for row in rows}
    for number, key in enumerate(part_ids, start=1):
        part = found.get(key)
        if part is None:
            raise NotFound(_("Part %(n)d, upload %(id)s, does not exist.") % {"n": number, "id": key})
        if not is_partial(part):
            text = _("Part %(n)d, upload %(id)s, is no partial upload: begin it with Upload-Concat: partial.")
            raise Conflict(text % {"n": number, "id": key}, code="not_partial")
        here = part_files.received(part)
        if here < part.length:
            text = _("Part %(n)d, upload %(id)s, has %(here)d of its %(length)d bytes. Send the rest first.")
            numbers = {"n": number, "id": key, "here": here, "length": part.length}
            raise Conflict(text % numbers, code="unfinished_part")
    return [found[key] for key in part_ids]


def _make(upload: Upload, place: UploadPath, found: Sequence[Upload]) -> None:
    """Make the file, finish the upload and delete the rows of its parts, all at once."""
    if upload.on_conflict == OnConflict.SKIP and (there := rules.file_at(upload)):
        with transaction.atomic():
            _finish(upload, there, found)
        return
    try:
        with _joined(found) as content:
            stored, facts = uploads_services.store_upload(
                owner=upload.owner, content=content, size=upload.length, limit=settings.RESUMABLE_MAX_BYTES
            )
    except Invalid:
        # Sending the same again would end the same.
        for part in found:
            resumable.drop_upload(upload=part)
        raise
    uploads_services.add_upload(
        owner=upload.owner,
        folder=upload.folder,
        folders=place.folders,
        name=place.name,
        stored=stored,
        facts=facts,
        on_conflict=upload.on_conflict,
        on_created=lambda file: _finish(upload, file, found),
    )


def _finish(upload: Upload, file: File, found: Sequence[Upload]) -> None:
    upload.file, upload.completed_at = file, timezone.now()
    upload.save(force_insert=True)
    # Another final upload may just have taken up one of them.
    gone, _by_model = Upload.objects.filter(pk__in=[part.pk for part in found]).delete()
    if gone < len(found):
        raise NotFound(_("A part of this upload does not exist any more."))


@contextmanager
def _joined(found: Sequence[Upload]) -> Iterator[BinaryIO]:
    """Give all parts to read as one file, without a copy."""
    pieces = [(part_files.part_path(part.pk), part.length) for part in found]
    with io.BufferedReader(JoinedFiles(pieces), 256 * 1024) as content:
        yield content


class JoinedFiles(io.RawIOBase):
    """Files that are read as one, one of them open at a time.

    Args:
        pieces: the path of each, and how many of its bytes count.
    """

    def __init__(self, pieces: Sequence[tuple[Path, int]]):
        super().__init__()
        self._paths = [path for path, _length in pieces]
        self._ends = list(accumulate(length for _path, length in pieces))
        self._at = 0
        self._open: tuple[int, Any] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        number = bisect_right(self._ends, self._at)
        if number >= len(self._ends):
            return 0
        view = memoryview(buffer)[: self._ends[number] - self._at]
        begins = self._ends[number - 1] if number else 0
        piece = self._piece(number)
        piece.seek(self._at - begins)
        count = piece.readinto(view)
        if not count:
            raise OSError("A part of an upload has become shorter.")
        self._at += count
        return int(count)

    def _piece(self, number: int) -> Any:
        if self._open is None or self._open[0] != number:
            self._close_piece()
            self._open = number, self._paths[number].open("rb", buffering=0)
        return self._open[1]

    def _close_piece(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def close(self) -> None:
        self._close_piece()
        super().close()
