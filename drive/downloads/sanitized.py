"""File bytes for share visitors, without location, camera or comment metadata."""

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

# Kinds without metadata to remove.
UNCHANGED_KINDS = frozenset({FileKind.TEXT, FileKind.WEIGHTS})


def plan_copy(blob: Blob) -> Clean:
    """Plan the sanitized copy of an image or video.

    Raises:
        Invalid: the metadata cannot be separated from the content.
    """
    try:
        with default_storage.open(blob.path) as content:
            return clean_copy(_raw_file(content))
    except FormatError as error:
        text = _(
            "Only a preview of this file is available: it may contain a location or other data of its owner."
        )
        raise Invalid(text, code="not_cleanable") from error


def read_copy(blob: Blob, plan: Clean) -> Iterator[bytes]:
    """Yield the planned copy."""
    with default_storage.open(blob.path) as content:
        yield from plan.read(_raw_file(content))


def sanitized_archive(members: Iterable[ZipEntry]) -> Iterator[bytes]:
    """Yield a zip of sanitized copies. A text at its end lists files that cannot be sanitized.

    The length is unknown in advance: it would take reading everything twice.

    Raises:
        LostBytesError: bytes are missing from the storage.
    """
    stream = zipstream.ZipStream()
    excluded = []
    for member in members:
        if not member.sha256:
            stream.mkdir(member.path)
        else:
            try:
                stream.add(_sanitized_bytes(member), member.path)
            except Invalid:
                excluded.append(member.path)
        yield from stream.all_files()
    if excluded:
        stream.add(_excluded_note(excluded).encode(), "NOT INCLUDED.txt")
    yield from stream.finalize()


def _sanitized_bytes(member: ZipEntry) -> Iterator[bytes]:
    blob = Blob(sha256=member.sha256)
    try:
        if member.kind in UNCHANGED_KINDS:
            return _whole(blob)
        return read_copy(blob, plan_copy(blob))
    except FileNotFoundError as error:
        raise LostBytesError(f"The bytes of blob {member.sha256} are missing") from error


def _whole(blob: Blob) -> Iterator[bytes]:
    with default_storage.open(blob.path) as content:
        yield from content.chunks()


def _excluded_note(paths: list[str]) -> str:
    reason = _(
        "These files are not included, because they may contain a location or other data of their owner:"
    )
    return "\n".join([reason, "", *paths, ""])


def _raw_file(content: Any) -> Any:
    """Return the raw file: Django's wrapper adds two calls to each read."""
    return content.file
