"""Result cache: results are reused only for their owner, and only while their bytes exist."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from drive.files import trash
from drive.files.services import Selection
from drive.models import Blob, File, Thumbnail
from drive.storage import blobs, pins, sweep
from processing import services
from processing.execution import cached_results, result_cache, tasks, work
from processing.execution.output_options import Options
from processing.fleet import registry as fleet
from processing.job_queue import claims, job_log
from processing.models import Item, Job, Memo, Output, State
from processing.services import Terms
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.execution.test_races import at_once, committed
from tests.processing.factories import FRESH, run_chunk, submit, take_turns, version

pytestmark = pytest.mark.django_db


def pictures(user: User, number: int, prefix: str = "") -> list[File]:
    return [upload(user, f"{prefix}{n:03}.jpg", seed=n) for n in range(number)]


def run(user: User, files: list[File], **options: Any) -> Job:
    job = submit(user, files, **options)
    take_turns(user)
    job.refresh_from_db()
    return job


def results(job: Job) -> list[tuple[Any, ...]]:
    """Return the visible results of a job: names, bytes, sizes."""
    made = Output.objects.filter(item__job=job).order_by("file__name")
    return list(
        made.values_list(
            "label",
            "file__name",
            "file__blob",
            "file__size",
            "file__width",
            "file__content_type",
            "file__state",
        )
    )


def vanish(digests: Any) -> None:
    """Delete bytes and their rows, as the sweep does without references."""
    for digest in digests:
        default_storage.delete(Blob(sha256=digest).path)
    Blob.objects.filter(pk__in=digests).delete()


def test_repeated_job_reuses_results(user: User) -> None:
    files = pictures(user, 5)
    first = run(user, files)
    second = run(user, files)
    assert (first.reused, second.reused, second.succeeded, second.state) == (0, 5, 5, State.SUCCEEDED)
    assert results(second) == results(first)
    assert second.output_folder_id != first.output_folder_id
    items = Item.objects.filter(job=second)
    assert set(items.values_list("reused", "attempts", "state")) == {(True, 0, State.SUCCEEDED)}
    assert set(items.values_list("worker", flat=True)) == {fleet.this_slot().worker}
    assert all(list(item.timings) == ["wait"] for item in items)
    assert [line.kind for line in job_log.log_of(second)] == ["submitted", "started", "reused", "finished"]


def test_reused_results_are_free(user: User) -> None:
    files = pictures(user, 3)
    listing = version().listing
    listing.price_each = 500
    listing.save(update_fields=["price_each"])
    assert run(user, files[:2]).price_charged == 1000
    assert run(user, files).price_charged == 500


def test_text_and_data_results_are_reused(user: User) -> None:
    files = pictures(user, 2)
    first, second = run(user, files, app="ascii"), run(user, files, app="ascii")
    assert second.reused == 2
    assert results(second) == results(first)
    outputs = [list(Item.objects.filter(job=job).values_list("output", flat=True)) for job in (first, second)]
    assert outputs[0] == outputs[1]


def test_every_part_of_the_cache_key_prevents_reuse(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    file = upload(user, seed=1)
    run(user, [file], app="pixelart", params={"block": 8})
    assert run(user, [file], app="pixelart", params={"block": 8}).reused == 1
    assert run(user, [file], app="pixelart", params={"block": 9}).reused == 0
    assert run(user, [file], app="blackwhite").reused == 0
    as_png = Terms(options=Options(format="PNG"))
    assert run(user, [file], app="pixelart", params={"block": 8}, terms=as_png).reused == 0
    from workers import registry

    monkeypatch.setattr(registry.get("pixelart"), "version", "other")
    assert run(user, [file], app="pixelart", params={"block": 8}).reused == 0


def test_job_can_disable_reuse(user: User) -> None:
    file = upload(user, seed=1)
    run(user, [file], terms=FRESH)
    assert not Memo.objects.exists()
    run(user, [file])
    assert run(user, [file], terms=FRESH).reused == 0


def test_results_of_another_account_are_never_reused(user: User, other_user: User) -> None:
    run(user, [upload(user, seed=1)])
    assert run(other_user, [upload(other_user, seed=1)]).reused == 0
    assert Memo.objects.count() == 2


def test_duplicates_in_a_job_are_computed_once(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers import engine

    runs: list[object] = []
    real = engine.run

    def counted(*given: Any, **named: Any) -> Any:
        runs.append(given)
        return real(*given, **named)

    monkeypatch.setattr(engine, "run", counted)
    job = run(user, [upload(user, f"{n}.jpg", seed=1) for n in range(12)])
    assert (job.succeeded, job.reused, len(runs)) == (12, 11, 1)
    assert len(results(job)) == 12


def test_duplicates_in_a_chunk_are_computed_once(user: User) -> None:
    job = submit(user, [upload(user, f"{n}.jpg", seed=n % 2) for n in range(6)])
    held = claims.claim(job=job, slot=fleet.this_slot(), slots=1, seconds=1, seconds_per_item=0.001)
    assert held is not None
    assert len(held.items) == 6
    done = run_chunk(held)
    work.record_results.finish(held, done)
    job.refresh_from_db()
    assert (job.succeeded, job.reused) == (6, 4)
    assert File.objects.filter(folder=job.output_folder).count() == 6


def test_two_equal_concurrent_jobs_share_work(user: User) -> None:
    files = pictures(user, 6)
    jobs = [submit(user, files), submit(user, files)]
    take_turns(user)
    assert sum(Job.objects.get(pk=job.pk).reused for job in jobs) == 6


def test_prediction_reuses_cached_result(user: User) -> None:
    file = upload(user, seed=1)
    run(user, [file])
    source = services.source_from_file(owner=user, file_id=file.pk)
    job = services.submit_prediction(owner=user, version=version(), params={}, source=source)
    take_turns(user)
    job.refresh_from_db()
    assert (job.state, job.reused) == (State.SUCCEEDED, 1)


def test_failures_are_not_cached(user: User) -> None:
    whole = picture_bytes(width=800, height=600, seed=2)
    bad = upload(user, "bad.jpg", data=whole[: len(whole) // 2])
    run(user, [bad])
    assert not Memo.objects.exists()
    assert run(user, [bad]).failed == 1


# --- Missing bytes.


def test_a_result_whose_bytes_were_swept_is_computed_again(user: User) -> None:
    files = pictures(user, 3)
    first = run(user, files)
    gone = list(File.objects.filter(folder=first.output_folder).values_list("blob", flat=True))[:1]
    File.objects.filter(folder=first.output_folder).delete()
    vanish(gone)
    second = run(user, files)
    assert (second.succeeded, second.reused) == (3, 2)
    for digest in File.objects.filter(folder=second.output_folder).values_list("blob", flat=True):
        assert blobs.read(digest)
    assert run(user, files).reused == 3


def test_missing_thumbnail_prevents_reuse(user: User) -> None:
    file = upload(user, seed=1)
    job = run(user, [file])
    digest = File.objects.get(folder=job.output_folder).blob_id
    thumbnail = Thumbnail.objects.get(source=digest)
    thumbnail.delete()
    vanish([thumbnail.blob_id])
    assert run(user, [file]).reused == 0
    assert Thumbnail.objects.filter(source=digest).exists()


def test_blob_row_without_bytes_is_not_reused(user: User) -> None:
    file = upload(user, seed=1)
    job = run(user, [file])
    digest = File.objects.get(folder=job.output_folder).blob_id
    File.objects.filter(folder=job.output_folder).delete()
    Blob.objects.filter(pk=digest).update(touched_at=timezone.now() - timedelta(hours=2))
    default_storage.delete(Blob(sha256=digest).path)
    again = run(user, [file])
    assert (again.succeeded, again.reused) == (1, 0)
    assert blobs.read(digest)


def test_deleted_results_are_reused_until_swept(user: User) -> None:
    file = upload(user, seed=1)
    job = run(user, [file])
    assert job.output_folder is not None
    trash.trash(owner=user, chosen=Selection(folders=(job.output_folder,), files=()))
    assert run(user, [file]).reused == 1


@committed
def test_sweep_skips_bytes_that_are_being_reused(user: User) -> None:
    file = upload(user, seed=1)
    job = run(user, [file])
    digest = File.objects.get(folder=job.output_folder).blob_id
    with transaction.atomic():
        assert pins.hold_bytes({digest}) == {digest}
        File.objects.filter(folder=job.output_folder).update(blob=file.blob)
        Thumbnail.objects.filter(source=digest).delete()
        Blob.objects.filter(pk=digest).update(touched_at=timezone.now() - timedelta(hours=2))
        assert at_once(sweep.sweep_orphans) == []
    assert Blob.objects.filter(pk=digest).exists()
    assert default_storage.exists(Blob(sha256=digest).path)


def test_old_cache_entries_are_deleted(user: User) -> None:
    files = pictures(user, 2)
    run(user, files)
    key = Item.objects.filter(job__owner=user).order_by("position").values_list("memo_key", flat=True)[0]
    Memo.objects.filter(key=key).update(made_at=timezone.now() - timedelta(days=91))
    tasks.sweep()
    assert Memo.objects.count() == 1
    assert run(user, files).reused == 1


# --- Concurrency.


@committed
def test_reusing_and_computing_slots_complete_each_item_once(user: User) -> None:
    files = pictures(user, 40)
    run(user, files[::2])
    job = submit(user, files)
    assert at_once(*[lambda: take_turns(user)] * 3) == []
    job.refresh_from_db()
    assert (job.state, job.succeeded, job.reused) == (State.SUCCEEDED, 40, 20)
    names = list(File.objects.filter(folder=job.output_folder).values_list("name", flat=True))
    assert len(names) == len(set(names)) == 40
    assert Output.objects.filter(item__job=job).count() == 40


def test_name_conflict_does_not_stop_a_reused_result(user: User) -> None:
    file = upload(user, "a.jpg", seed=1)
    run(user, [file])
    job = submit(user, [file])
    upload(user, "a.jpg", folder=job.output_folder, seed=9)
    take_turns(user)
    names = File.objects.filter(folder=job.output_folder).values_list("name", flat=True)
    assert sorted(names) == ["a (2).jpg", "a.jpg"]


# --- Number of queries.


def test_turn_without_cached_results_costs_one_query(user: User) -> None:
    job = submit(user, pictures(user, 3))
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert cached_results.use_cached(job, fleet.this_slot()) == 0
    assert len(asked) == 1
    job = submit(user, pictures(user, 1), terms=FRESH)
    with CaptureQueriesContext(connection) as asked:
        assert cached_results.use_cached(job, fleet.this_slot()) == 0
    assert len(asked) == 0


def test_queries_do_not_grow_with_the_images(user: User) -> None:
    files = pictures(user, 30)
    run(user, files)
    counts = []
    for number in (3, 30):
        job = submit(user, files[:number])
        with CaptureQueriesContext(connection) as asked:
            assert cached_results.use_cached(job, fleet.this_slot()) == number
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_cache_lookup_uses_an_index_in_a_large_job(user: User) -> None:
    """10,000 waiting items, and 20,000 cached results of the owner, none of them for this job."""
    job = submit(user, [upload(user, seed=1)])
    item = Item.objects.get(job=job)
    Item.objects.bulk_create(
        Item(job=job, position=n, name="x", output_stem=f"x{n}", blob_id=item.blob_id, memo_key=f"{n:064}")
        for n in range(1, 10_000)
    )
    Memo.objects.bulk_create(Memo(owner=user, key=f"m{n:063}", files=[]) for n in range(20_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE processing_item; ANALYZE processing_memo; ANALYZE processing_job")
        with CaptureQueriesContext(connection) as asked:
            assert not result_cache.has_cached(job, among=cached_results.FIRST_WINDOW)
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + asked[0]["sql"])
        plan = json.dumps(cursor.fetchone()[0])
    assert "Seq Scan" not in plan
    assert '"Index Name": "memo_once"' in plan
    assert '"Index Name": "item_waiting"' in plan
