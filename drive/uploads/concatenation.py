"""Concatenation of partial uploads into one file (tus extension `concatenation`).

A partial upload never becomes a file by itself. Like any unfinished upload it reserves room, counts toward
the owner's limit and expires. The final upload joins its parts into one file and deletes them. A repeated
request returns the file of the first one.
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
    """Return the Upload-Concat header for HEAD; "" for an ordinary upload."""
    return str(upload.metadata.get(CONCAT, ""))


def is_partial(upload: Upload) -> bool:
    """Return whether an upload is a part of a file."""
    return concat_of(upload) == PARTIAL


def concatenate(
    *,
    owner: User,
    folder: Folder | None,
    place: UploadPath,
    part_ids: Sequence[UUID],
    header: str,
    on_conflict: OnConflict = OnConflict.KEEP_BOTH,
    key: str | None = None,
) -> Upload:
    """Join complete partial uploads into one file, in this order; return its finished upload.

    Args:
        header: Upload-Concat as HEAD returns it for the new upload.
        folder, place, on_conflict, key: as in `resumable.begin_resumable`.

    Raises:
        NotFound: a part does not exist or belongs to another account, or the folder has been trashed.
        Conflict: a part is no partial upload or is incomplete, or the key was used for another upload.
        TooLarge: the file is over the limit, or the drive has no room for it.
        Invalid: the joined file is not accepted. The parts are deleted.
    """
    values = {
        "owner": owner,
        "folder": folder,
        "name": place.name,
        "relative_path": place.path,
        "on_conflict": on_conflict,
        "metadata": {CONCAT: header},
    }
    upload_id = rules.key_of(owner, key) if key is not None else _id_of(owner, part_ids)
    if earlier := _finished(upload_id):
        return rules.same_request(earlier, values)
    found = _complete_parts(owner, part_ids)
    length = sum(part.length for part in found)
    rules.check_length(length)
    upload = Upload(
        **values, pk=upload_id, length=length, offset=length, expires_at=timezone.now() + rules.LIFE
    )
    if on_conflict != OnConflict.KEEP_BOTH:
        check_kept_uploads(owner=owner)
    try:
        _join_parts(upload, place, found)
    except IntegrityError:
        # The same request came twice at the same time.
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


def _complete_parts(owner: User, part_ids: Sequence[UUID]) -> list[Upload]:
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
            text = _(
                "Part %(n)d, upload %(id)s, is not a partial upload. Begin it with Upload-Concat: partial."
            )
            raise Conflict(text % {"n": number, "id": key}, code="not_partial")
        here = part_files.received(part)
        if here < part.length:
            text = _("Part %(n)d, upload %(id)s, has %(here)d of its %(length)d bytes. Send the rest first.")
            numbers = {"n": number, "id": key, "here": here, "length": part.length}
            raise Conflict(text % numbers, code="unfinished_part")
    return [found[key] for key in part_ids]


def _join_parts(upload: Upload, place: UploadPath, found: Sequence[Upload]) -> None:
    """Create the file, finish the upload and delete the rows of its parts, in one transaction."""
    if upload.on_conflict == OnConflict.SKIP and (existing := rules.file_at(upload)):
        with transaction.atomic():
            _finish(upload, existing, found)
        return
    try:
        with _joined(found) as content:
            stored, facts = uploads_services.store_upload(
                owner=upload.owner, content=content, size=upload.length, limit=settings.RESUMABLE_MAX_BYTES
            )
    except Invalid:
        # The same bytes would be refused again.
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
    # A concurrent final upload may have used one of the parts.
    gone, _by_model = Upload.objects.filter(pk__in=[part.pk for part in found]).delete()
    if gone < len(found):
        raise NotFound(_("A part of this upload no longer exists. Upload the parts again."))


@contextmanager
def _joined(found: Sequence[Upload]) -> Iterator[BinaryIO]:
    """Open all parts as one file, without a copy."""
    pieces = [(part_files.part_path(part.pk), part.length) for part in found]
    with io.BufferedReader(JoinedFiles(pieces), 256 * 1024) as content:
        yield content


class JoinedFiles(io.RawIOBase):
    """Read-only concatenation of files. Only one of them is open at a time.

    Args:
        pieces: path and length in bytes of each file.
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
            raise OSError("A part file is shorter than its recorded length.")
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
