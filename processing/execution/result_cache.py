"""Results that an owner has already: what they are known by, and what is kept of them.

A memo names bytes by their digests and keeps none alive. Another person's are never looked at.
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
# Old memos of one sweep.
MOST_FORGOTTEN = 1000


# By their keys one at a time: left to choose, the planner may read all that an owner has.
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
class Known:
    """A result that is there already."""

    files: tuple[StoredFile, ...]
    data: Any


def is_known(job: Job, *, among: int) -> bool:
    """Tell whether there is a result already for any of the first `among` items that wait. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_IS_KNOWN, {"job": job.pk, "owner": job.owner_id, "among": among})
        row: tuple[bool] = cursor.fetchone()
    return row[0]


def recall(owner_id: UUID, keys: Collection[str]) -> tuple[dict[str, Known], set[str]]:
    """Return what is known under these keys, and those keys of which bytes are gone.

    The bytes of what is returned stay there until the transaction ends.
    """
    memos = list(Memo.objects.filter(owner=owner_id, key__in=keys).values_list("key", "files", "data"))
    held = hold_bytes({digest for _, files, _ in memos for digest in _digests(files)})
    known = {
        key: Known(tuple(_read(file) for file in files), data)
        for key, files, data in memos
        if held.issuperset(_digests(files))
    }
    return known, {key for key, _, _ in memos} - known.keys()


def remember(owner_id: UUID, done: Iterable[Done]) -> None:
    """Keep in mind what was computed. Call it in the transaction that records it, after the files' rows."""
    new = [d for d in done if d.item.memo_key and d.state == State.SUCCEEDED and not d.reused]
    made = {d.item.memo_key: (d.files, d.data) for d in new}
    # Always in the same order, so that two transactions with the same keys cannot lock each other out.
    Memo.objects.bulk_create(
        [
            Memo(owner_id=owner_id, key=key, files=[_write(file) for file in files], data=data)
            for key, (files, data) in sorted(made.items(), key=lambda memo: memo[0])
        ],
        ignore_conflicts=True,
    )


def drop(owner_id: UUID, keys: Collection[str]) -> None:
    """Forget results whose bytes are gone."""
    Memo.objects.filter(owner=owner_id, key__in=keys).delete()


def forget_old() -> int:
    """Forget some of the results that were made too long ago; return how many."""
    old = Memo.objects.filter(made_at__lt=Now() - timedelta(days=settings.MEMO_DAYS)).order_by("made_at")
    deleted, _ = Memo.objects.filter(pk__in=old.values("pk")[:MOST_FORGOTTEN]).delete()
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
