"""Results: all that finished items leave behind, written in one transaction."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from drive.files.bulk_create import NewFile, create_files
from drive.files.folder_tree import hold_or_replace
from drive.models import Folder
from drive.storage import blobs
from processing.execution import model_speed, output_folders, result_cache
from processing.execution.model_speed import Pace
from processing.execution.outcomes import Done, StoredFile
from processing.job_queue import claims, job_log, transitions
from processing.job_queue.job_log import Kind
from processing.models import Job, Output, State
from workers.thumbnail_sizes import THUMBNAIL_SIDE


def finish(held: claims.Claim, done: Sequence[Done], pace: Pace | None = None) -> None:
    """Record a chunk: only items that still carry the lease token count, whatever was computed for others.

    Args:
        pace: how fast the job's model went, where that was measured.
    """
    if not done:
        return
    with transaction.atomic():
        job = transitions.locked(held.job.pk)
        mine = claims.finish_items(held, json.dumps([_row(d) for d in done]))
        record(job, [d for d in done if d.item.pk in mine], pace=pace)


def record(job: Job, won: Sequence[Done], *, reused: bool = False, pace: Pace | None = None) -> None:
    """Record items that have just ended: their files, what is remembered of them, the job's log and counters.

    Call it in the transaction that has locked the job and moved the items. Further locks follow in the order
    that `processing.job_queue.claims` gives. The last item closes the job.

    Args:
        reused: whether all results are earlier ones; this transaction keeps their bytes from the sweep.
        pace: as that of `finish`.
    """
    file_results(job, won, held=reused)
    result_cache.remember(job.owner_id, won)
    _note(job, won)
    transitions.count(
        job,
        succeeded=sum(d.state == State.SUCCEEDED for d in won),
        failed=sum(d.state == State.FAILED for d in won),
        reused=sum(d.reused for d in won),
    )
    if pace is not None:
        model_speed.note(pace, won)


def _note(job: Job, won: Sequence[Done]) -> None:
    reasons = Counter((d.error_code, d.error) for d in won if d.state == State.FAILED)
    for (code, reason), number in reasons.items():
        job_log.tally(job.pk, Kind.FAILED, number, code=code, reason=reason)
    if reused := sum(d.reused for d in won):
        job_log.tally(job.pk, Kind.REUSED, reused)


def _row(done: Done) -> dict[str, Any]:
    return {
        "id": str(done.item.pk),
        "state": done.state,
        "output": done.data,
        "error_code": done.error_code,
        "error": done.error[:500],
        "timings": done.timings,
        "reused": done.reused,
    }


def file_results(job: Job, won: Sequence[Done], *, held: bool = False) -> None:
    """Put results into the job's folder. Call it in the transaction that writes their items.

    Args:
        held: whether the rows of their bytes exist already and are kept from the sweep.
    """
    made = [(d, f) for d in won for f in d.files]
    if not made:
        return
    output_folders.hold_tree(job, {d.item.folder_path for d, _ in made})
    # The bytes before the folder, as an upload into it locks them.
    if not held:
        blobs.register([f.stored for _, f in made] + [f.thumbnail for _, f in made if f.thumbnail])
    files = create_files(_results_folder(job), [_new_file(d, f) for d, f in made])
    Output.objects.bulk_create(
        Output(item=d.item, label=f.label, file=file) for (d, f), file in zip(made, files, strict=True)
    )


def _new_file(done: Done, made: StoredFile) -> NewFile:
    return NewFile(
        path=done.item.folder_path,
        name=done.item.output_stem + made.suffix,
        sha256=made.stored.sha256,
        content_type=made.stored.content_type,
        size=made.stored.size,
        width=made.width,
        height=made.height,
        thumbnail=(made.thumbnail.sha256, THUMBNAIL_SIDE) if made.thumbnail else None,
    )


def _results_folder(job: Job) -> Folder:
    """Return the job's folder; one that was trashed meanwhile is replaced, so that results are seen."""
    before = job.output_folder
    name = before.name if before is not None else f"Results {timezone.localtime():%Y-%m-%d %H-%M}"
    folder = hold_or_replace(before, owner_id=job.owner_id, name=name)
    if folder != before:
        job.output_folder = folder
        job.save(update_fields=["output_folder", "updated_at"])
    return folder
