"""Cache of results for reuse, one for each owner.

An entry (`Memo`) names bytes by their digests and does not protect them from deletion. Results are never
shared between accounts.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from drive.storage.blobs import Stored
from drive.storage.pins import hold_bytes
from processing.execution.outcomes import Done, StoredFile
from processing.models import Job, Memo, State

THUMBNAIL_TYPE = "image/webp"
# Entries that one sweep deletes at most.
MAX_DELETED = 1000


# The LATERAL join forces one index lookup per key. Otherwise the planner may read all entries of an owner.
_IS_KNOWN = """
    SELECT EXISTS (
        SELECT FROM (
            SELECT memo_key FROM processing_item
            WHERE job_id = %(job)s AND state = 'starting' ORDER BY position LIMIT %(among)s
        ) AS item,
        LATERAL (
            SELECT FROM processing_memo AS memo
            WHERE memo.owner_id = %(owner)s AND memo.key = item.memo_key LIMIT 1
        ) AS known
    )
"""


@dataclass(frozen=True)
class CachedResult:
    """A cached result: files and data."""

    files: tuple[StoredFile, ...]
    data: Any


def has_cached(job: Job, *, among: int) -> bool:
    """Return whether any of the first `among` waiting items has a cached result. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_IS_KNOWN, {"job": job.pk, "owner": job.owner_id, "among": among})
        row: tuple[bool] = cursor.fetchone()
    return row[0]


def load(owner_id: UUID, keys: Collection[str]) -> tuple[dict[str, CachedResult], set[str]]:
    """Return the cached results by key, and the keys of results with missing bytes.

    The returned results cannot lose their bytes until the transaction ends.
    """
    memos = list(Memo.objects.filter(owner=owner_id, key__in=keys).values_list("key", "files", "data"))
    present = hold_bytes({digest for _, files, _ in memos for digest in _digests(files)})
    cached = {
        key: CachedResult(tuple(_read(file) for file in files), data)
        for key, files, data in memos
        if present.issuperset(_digests(files))
    }
    return cached, {key for key, _, _ in memos} - cached.keys()


def store(owner_id: UUID, done: Iterable[Done]) -> None:
    """Cache newly computed results. Call it after the files' rows, in the transaction that records them."""
    new = [d for d in done if d.item.memo_key and d.state == State.SUCCEEDED and not d.reused]
    results = {d.item.memo_key: (d.files, d.data) for d in new}
    # Sorted, so that two transactions with the same keys cannot deadlock.
    Memo.objects.bulk_create(
        [
            Memo(owner_id=owner_id, key=key, files=[_write(file) for file in files], data=data)
            for key, (files, data) in sorted(results.items(), key=lambda memo: memo[0])
        ],
        ignore_conflicts=True,
    )


def delete(owner_id: UUID, keys: Collection[str]) -> None:
    """Delete cached results, because their bytes are missing."""
    Memo.objects.filter(owner=owner_id, key__in=keys).delete()


def delete_old() -> int:
    """Delete some of the entries older than `MEMO_DAYS`; return the number deleted."""
    old = Memo.objects.filter(made_at__lt=Now() - timedelta(days=settings.MEMO_DAYS)).order_by("made_at")
    deleted, _ = Memo.objects.filter(pk__in=old.values("pk")[:MAX_DELETED]).delete()
    return deleted


def _digests(files: Sequence[dict[str, Any]]) -> set[str]:
    return {digest for file in files for digest in (file["sha256"], file["thumbnail"]) if digest}


def _write(file: StoredFile) -> dict[str, Any]:
    return {
        "label": file.label,
        "suffix": file.suffix,
        "sha256": file.stored.sha256,
        "size": file.stored.size,
        "content_type": file.stored.content_type,
        "width": file.width,
        "height": file.height,
        "thumbnail": file.thumbnail.sha256 if file.thumbnail else None,
        "thumbnail_size": file.thumbnail.size if file.thumbnail else None,
    }


def _read(file: dict[str, Any]) -> StoredFile:
    thumbnail = file["thumbnail"]
    return StoredFile(
        label=file["label"],
        suffix=file["suffix"],
        stored=Stored(file["sha256"], file["size"], file["content_type"]),
        width=file["width"],
        height=file["height"],
        thumbnail=Stored(thumbnail, file["thumbnail_size"], THUMBNAIL_TYPE) if thumbnail else None,
    )
