"""Results: what a finished chunk leaves behind, written in one transaction."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from drive.files import folder_tree
from drive.files.bulk_create import NAME_ATTEMPTS, insert_numbered
from drive.files.names import free_name
from drive.files.placement import hold, names_of
from drive.models import File, FileKind, FileState, Folder, Thumbnail
from drive.storage import blobs
from ipau.common.errors import NotFound
from processing.execution import model_speed, output_folders, result_cache
from processing.execution.model_speed import Pace
from processing.execution.outcomes import Done, StoredFile
from processing.job_queue import claims, job_log, transitions
from processing.job_queue.job_log import Kind
from processing.models import Job, Output, State

THUMBNAIL_SIDE = 256


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
        won = [d for d in done if d.item.pk in mine]
        file_results(job, won)
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
    ways = {d.item.folder_path for d, _ in made}
    output_folders.hold_tree(job, ways)
    # The bytes before the folder, as an upload into it locks them.
    if not held:
        blobs.register([f.stored for _, f in made] + [f.thumbnail for _, f in made if f.thumbnail])
    homes = folder_tree.make_folders(_results_folder(job), ways)
    files = [_file(job, homes[d.item.folder_path], d, f) for d, f in made]
    insert_numbered(files)
    Output.objects.bulk_create(
        Output(item=d.item, label=f.label, file=file) for (d, f), file in zip(made, files, strict=True)
    )
    Thumbnail.objects.bulk_create(
        [
            Thumbnail(source_id=f.stored.sha256, side=THUMBNAIL_SIDE, blob_id=f.thumbnail.sha256)
            for _, f in sorted(made, key=lambda m: m[1].stored.sha256)
            if f.thumbnail
        ],
        ignore_conflicts=True,
    )


def _file(job: Job, folder: Folder, done: Done, made: StoredFile) -> File:
    return File(
        owner_id=job.owner_id,
        folder=folder,
        name=done.item.output_stem + made.suffix,
        blob_id=made.stored.sha256,
        kind=FileKind.PICTURE if made.width else FileKind.TEXT,
        content_type=made.stored.content_type,
        size=made.stored.size,
        width=made.width,
        height=made.height,
        state=FileState.READY,
    )


def _results_folder(job: Job) -> Folder:
    """Return the job's folder; one that was trashed meanwhile is replaced, so that results are seen."""
    folder = job.output_folder
    if folder is not None:
        # Looked at under a lock: whoever trashes it now waits for us, and takes our results along.
        with suppress(NotFound):
            hold(folder)
            return folder
    name = folder.name if folder is not None else f"Results {timezone.localtime():%Y-%m-%d %H-%M}"
    job.output_folder = _new_folder(job, name)
    job.save(update_fields=["output_folder", "updated_at"])
    return job.output_folder


def _new_folder(job: Job, name: str) -> Folder:
    here = Folder.objects.filter(owner=job.owner_id, parent=None).live()
    free = name
    for _ in range(NAME_ATTEMPTS - 1):
        try:
            with transaction.atomic():
                return Folder.objects.create(owner_id=job.owner_id, parent=None, name=free)
        except IntegrityError:
            free = free_name(name, names_of(here))
    return Folder.objects.create(owner_id=job.owner_id, parent=None, name=free)
