"""Unfinished uploads that have expired, and part files that belong to none, are deleted."""

import contextlib
import os
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.utils import timezone

from drive.models import Upload
from drive.uploads import s3_multipart
from drive.uploads.part_files import folder, remove

# A part file without a row may belong to a request that is just making the row.
GRACE = timedelta(hours=1)


def sweep_uploads(*, limit: int = 500) -> int:
    """Drop uploads whose time is over and part files that have no row; return how many of both."""
    now = timezone.now()
    expired = list(Upload.objects.filter(expires_at__lt=now)[:limit])
    for upload in expired:
        # Asked again: bytes that have just come give it more time.
        if Upload.objects.filter(pk=upload.pk, expires_at__lt=now).delete()[0]:
            remove(upload.pk)
            s3_multipart.discard(upload)
    strays = _strays(limit)
    for path in strays:
        path.unlink(missing_ok=True)
    return len(expired) + len(strays)


def _strays(limit: int) -> list[Path]:
    """Return part files that are old and that no upload under way refers to."""
    try:
        found = list(os.scandir(folder()))
    except FileNotFoundError:
        return []
    oldest = (timezone.now() - GRACE).timestamp()
    old: dict[str, Path] = {}
    for entry in found:
        with contextlib.suppress(FileNotFoundError):
            if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < oldest:
                old[entry.name] = Path(entry.path)
    names = list(old)[:limit]
    known = {str(key) for key in _under_way(names)}
    return [old[name] for name in names if name not in known]


def _under_way(names: list[str]) -> set[UUID]:
    keys = []
    for name in names:
        with contextlib.suppress(ValueError):
            keys.append(UUID(name))
    rows = Upload.objects.filter(pk__in=keys, completed_at__isnull=True)
    return set(rows.values_list("pk", flat=True))
