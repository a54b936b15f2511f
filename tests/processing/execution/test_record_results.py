"""Recording results: computed and reused ones write the same rows in the same order."""

from collections.abc import Iterable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from drive.files.services import Selection
from drive.models import File, Thumbnail
from processing.execution import cached_results, record_results
from processing.fleet import registry
from processing.job_queue import claims, job_log
from processing.models import Item, Job, Memo, Output, State
from tests.processing.execution.test_output_folders import paths, submit, summer
from tests.processing.factories import run_chunk

pytestmark = pytest.mark.django_db
# Statements that take locks, in the order of `processing.job_queue.claims`: job, items, folder tree, blobs,
# folder, usage (locked by files), memos.
ORDER = {
    "job": ('FROM "processing_job"', "FOR NO KEY UPDATE"),
    "items": ("UPDATE processing_item", ""),
    "tree": ('FROM "accounts_user"', "FOR NO KEY UPDATE"),
    "blobs": ('INSERT INTO "drive_blob"', ""),
    "folder": ('FROM "drive_folder"', "FOR NO KEY UPDATE"),
    "usage": ('INSERT INTO "drive_file"', ""),
    "thumbnails": ('INSERT INTO "drive_thumbnail"', ""),
    "outputs": ('INSERT INTO "processing_output"', ""),
    "memos": ('INSERT INTO "processing_memo"', ""),
    "counters": ('UPDATE "processing_job"', '"succeeded" = '),
}


def steps(queries: Iterable[dict[str, str]]) -> list[str]:
    """Return the `ORDER` names of the statements, by first occurrence."""
    found: dict[str, None] = {}
    for query in queries:
        sql = " ".join(query["sql"].split())
        for name, (begins, more) in ORDER.items():
            if begins in sql and more in sql:
                found.setdefault(name)
    return list(found)


def compute(job: Job) -> None:
    held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=9, seconds_per_item=0.01)
    assert held is not None
    assert len(held.items) == job.total
    done = run_chunk(held)
    record_results.finish(held, done)


def reuse(job: Job) -> None:
    assert cached_results.use_cached(job, registry.this_slot()) == job.total


def recorded_rows(job: Job) -> dict[str, Any]:
    """Return everything that is visible of a job, except whether its results were reused."""
    job.refresh_from_db()
    made = Output.objects.filter(item__job=job).order_by("item__position", "label")
    items = Item.objects.filter(job=job).order_by("position")
    return {
        "state": (job.state, job.succeeded, job.failed, job.total),
        "items": list(items.values_list("state", "output", "error_code", "error", "lease_token")),
        "files": list(made.values_list("label", "file__blob", "file__kind", "file__state", "file__width")),
        "paths": paths(job),
    }


def test_reused_and_computed_results_write_the_same_rows_in_order(user: User) -> None:
    chosen = Selection(folders=(summer(user),), files=())
    first, second = submit(user, chosen), submit(user, chosen)
    with CaptureQueriesContext(connection) as computed:
        compute(first)
    memos, thumbnails = Memo.objects.count(), Thumbnail.objects.count()
    with CaptureQueriesContext(connection) as taken:
        reuse(second)
    assert recorded_rows(first) == recorded_rows(second)
    assert recorded_rows(first)["state"] == (State.SUCCEEDED, 3, 0, 3)
    assert (first.reused, second.reused) == (0, 3)
    kinds = [[line.kind for line in job_log.log_of(job)] for job in (first, second)]
    assert kinds == [["submitted", "started", "finished"], ["submitted", "started", "reused", "finished"]]
    assert steps(computed) == list(ORDER)
    # Reused results have locked bytes and cache entries already.
    assert steps(taken) == [name for name in ORDER if name not in ("blobs", "memos")]
    assert (memos, thumbnails) == (Memo.objects.count(), Thumbnail.objects.count()) == (3, 3)


def test_error_while_recording_rolls_back_all_items(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed and reused results are recorded in one transaction."""
    chosen = Selection(folders=(summer(user),), files=())
    compute(submit(user, chosen))
    files = File.objects.count()
    again = submit(user, chosen)

    def fail(*given: Any, **named: Any) -> None:
        raise RuntimeError("struck")

    monkeypatch.setattr(record_results.transitions, "count", fail)
    with pytest.raises(RuntimeError, match="struck"):
        reuse(again)
    assert set(Item.objects.filter(job=again).values_list("state", flat=True)) == {State.STARTING}
    with pytest.raises(RuntimeError, match="struck"):
        compute(again)
    assert set(Item.objects.filter(job=again).values_list("state", flat=True)) == {State.PROCESSING}
    assert File.objects.count() == files
