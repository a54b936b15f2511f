"""Sweep of uploads: delete expired uploads and orphaned part files."""

import contextlib
import os
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.utils import timezone

from drive.models import Upload
from drive.uploads import s3_multipart
from drive.uploads.part_files import folder, remove

# A younger part file without a row may belong to a request that is creating the row.
GRACE = timedelta(hours=1)


def sweep_uploads(*, limit: int = 500) -> int:
    """Delete expired uploads and orphaned part files; return the number deleted."""
    now = timezone.now()
    expired = list(Upload.objects.filter(expires_at__lt=now)[:limit])
    for upload in expired:
        # Checked again: newly received bytes extend the lifetime.
        if Upload.objects.filter(pk=upload.pk, expires_at__lt=now).delete()[0]:
            remove(upload.pk)
            s3_multipart.discard(upload)
    strays = _strays(limit)
    for path in strays:
        path.unlink(missing_ok=True)
    return len(expired) + len(strays)


def _strays(limit: int) -> list[Path]:
    """Return old part files without an unfinished upload."""
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
