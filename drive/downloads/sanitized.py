"""What of somebody's files is handed to others: their bytes without location, maker or comments."""

from collections.abc import Iterable, Iterator
from typing import Any

import zipstream  # type: ignore[import-untyped]  # has no types
from django.core.files.storage import default_storage
from django.utils.translation import gettext as _

from drive.downloads.zip_archives import LostBytesError, ZipEntry
from drive.models import Blob, FileKind
from ipau.common.errors import Invalid
from workers.formats.byte_source import FormatError
from workers.sanitize.copy_plan import Clean
from workers.sanitize.images import clean_copy

# These are their content and nothing else.
AS_THEY_ARE = frozenset({FileKind.TEXT, FileKind.WEIGHTS})


def plan_copy(blob: Blob) -> Clean:
    """Plan the copy of a picture's or video's bytes that others may have.

    Raises:
        Invalid: they cannot be told apart from what they say of their maker.
    """
    try:
        with default_storage.open(blob.path) as content:
            return clean_copy(_opened(content))
    except FormatError as error:
        text = _(
            "Only a preview of this file can be shown: it may hold a location or other data of its owner."
        )
        raise Invalid(text, code="not_cleanable") from error


def copy_of(blob: Blob, plan: Clean) -> Iterator[bytes]:
    """Yield the copy that was planned."""
    with default_storage.open(blob.path) as content:
        yield from plan.read(_opened(content))


def archive_for_others(members: Iterable[ZipEntry]) -> Iterator[bytes]:
    """Yield a zip of what others may have; what cannot be cleaned is named in a text at its end.

    How long it is shows only on the way: knowing before would mean to read everything twice.

    Raises:
        LostBytesError: bytes are missing from the storage.
    """
    made = zipstream.ZipStream()
    left_out = []
    for member in members:
        if not member.sha256:
            made.mkdir(member.path)
        else:
            try:
                made.add(_bytes_for_others(member), member.path)
            except Invalid:
                left_out.append(member.path)
        yield from made.all_files()
    if left_out:
        made.add(_note_on(left_out).encode(), "NOT INCLUDED.txt")
    yield from made.finalize()


def _bytes_for_others(member: ZipEntry) -> Iterator[bytes]:
    blob = Blob(sha256=member.sha256)
    try:
        if member.kind in AS_THEY_ARE:
            return _whole(blob)
        return copy_of(blob, plan_copy(blob))
    except FileNotFoundError as error:
        raise LostBytesError(f"The bytes of blob {member.sha256} are missing") from error


def _whole(blob: Blob) -> Iterator[bytes]:
    with default_storage.open(blob.path) as content:
        yield from content.chunks()


def _note_on(paths: list[str]) -> str:
    reason = _("These files may hold a location or other data of their owner, so they are not handed out:")
    return "\n".join([reason, "", *paths, ""])


def _opened(content: Any) -> Any:
    """Return the file behind Django's, whose every call would go through two more."""
    return content.file
