"""Record the results of finished items, their files, log and counters in one transaction."""

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
from processing.execution.model_speed import SpeedSample
from processing.execution.outcomes import Done, StoredFile
from processing.job_queue import claims, job_log, transitions
from processing.job_queue.job_log import Kind
from processing.models import Job, Output, State
from workers.thumbnail_sizes import THUMBNAIL_SIDE


def finish(claim: claims.Claim, done: Sequence[Done], speed: SpeedSample | None = None) -> None:
    """Record a chunk. Items that no longer have the lease token of the claim are skipped.

    Args:
        speed: measured speed of the job's model, if any.
    """
    if not done:
        return
    with transaction.atomic():
        job = transitions.lock_job(claim.job.pk)
        owned = claims.finish_items(claim, json.dumps([_row(d) for d in done]))
        record(job, [d for d in done if d.item.pk in owned], speed=speed)


def record(
    job: Job, recorded: Sequence[Done], *, reused: bool = False, speed: SpeedSample | None = None
) -> None:
    """Record files, cache entries, log and counters of items that just ended.

    Call it in the transaction that locked the job and updated the items. Further locks follow in the order
    of `processing.job_queue.claims`. The last item completes the job.

    Args:
        reused: whether all results are reused. This transaction protects their bytes from the sweep.
        speed: as in `finish`.
    """
    file_results(job, recorded, bytes_locked=reused)
    result_cache.store(job.owner_id, recorded)
    _note(job, recorded)
    transitions.count(
        job,
        succeeded=sum(d.state == State.SUCCEEDED for d in recorded),
        failed=sum(d.state == State.FAILED for d in recorded),
        reused=sum(d.reused for d in recorded),
    )
    if speed is not None:
        model_speed.add(speed, recorded)


def _note(job: Job, recorded: Sequence[Done]) -> None:
    reasons = Counter((d.error_code, d.error) for d in recorded if d.state == State.FAILED)
    for (code, reason), number in reasons.items():
        job_log.tally(job.pk, Kind.FAILED, number, code=code, reason=reason)
    if reused := sum(d.reused for d in recorded):
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


def file_results(job: Job, recorded: Sequence[Done], *, bytes_locked: bool = False) -> None:
    """Put results into the job's folder. Call it in the transaction that updates their items.

    Args:
        bytes_locked: whether the blob rows exist already and are protected from the sweep.
    """
    results = [(d, f) for d in recorded for f in d.files]
    if not results:
        return
    output_folders.lock_folder_tree(job, {d.item.folder_path for d, _ in results})
    # Lock blobs before the folder, in the same order as uploads.
    if not bytes_locked:
        blobs.register([f.stored for _, f in results] + [f.thumbnail for _, f in results if f.thumbnail])
    files = create_files(_results_folder(job), [_new_file(d, f) for d, f in results])
    Output.objects.bulk_create(
        Output(item=d.item, label=f.label, file=file) for (d, f), file in zip(results, files, strict=True)
    )


def _new_file(done: Done, result: StoredFile) -> NewFile:
    return NewFile(
        path=done.item.folder_path,
        name=done.item.output_stem + result.suffix,
        sha256=result.stored.sha256,
        content_type=result.stored.content_type,
        size=result.stored.size,
        width=result.width,
        height=result.height,
        thumbnail=(result.thumbnail.sha256, THUMBNAIL_SIDE) if result.thumbnail else None,
    )


def _results_folder(job: Job) -> Folder:
    """Return the job's folder. A new folder replaces it if it was trashed or deleted."""
    current = job.output_folder
    name = current.name if current is not None else f"Results {timezone.localtime():%Y-%m-%d %H-%M}"
    folder = hold_or_replace(current, owner_id=job.owner_id, name=name)
    if folder != current:
        job.output_folder = folder
        job.save(update_fields=["output_folder", "updated_at"])
    return folder
