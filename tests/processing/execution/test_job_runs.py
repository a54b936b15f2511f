"""Jobs from submission to results, run by worker code in this process."""

import time
from typing import Any

import pytest

from accounts.models import User
from drive.models import File, FileState, Thumbnail
from processing.execution import work
from processing.fleet import registry
from processing.job_queue import claims, transitions, wakeups
from processing.models import Item, Job, Lane, Output, State
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_chunk, take_turns
from workers import engine

pytestmark = pytest.mark.django_db


def test_a_job_runs_to_its_end_and_files_its_results(user: User) -> None:
    files = [upload(user, f"p{n}.jpg", seed=n) for n in range(5)]
    job = submit(user, files)
    assert (job.state, job.total) == (State.STARTING, 5)
    assert job.output_folder is not None
    assert job.output_folder.name.startswith("Black and white ")

    take_turns(user)

    job.refresh_from_db()
    assert (job.state, job.succeeded, job.failed) == (State.SUCCEEDED, 5, 0)
    assert job.completed_at is not None
    results = File.objects.filter(folder=job.output_folder)
    assert sorted(results.values_list("name", flat=True)) == [f"p{n}.jpg" for n in range(5)]
    assert {f.state for f in results} == {FileState.READY}
    assert Thumbnail.objects.filter(source__in=results.values("blob")).count() == 5
    item = Item.objects.filter(job=job).first()
    assert item is not None
    assert {"wait", "fetch", "decode", "run", "encode", "thumbnail", "store"} <= set(item.timings)
    assert Lane.objects.get(owner=user).outstanding == 0


def test_bad_image_fails_alone_with_a_reason(user: User) -> None:
    good = upload(user, "good.jpg", seed=1)
    whole = picture_bytes(width=800, height=600, seed=2)
    bad = upload(user, "bad.jpg", data=whole[: len(whole) // 2])
    job = submit(user, [good, bad])
    take_turns(user)
    job.refresh_from_db()
    assert (job.state, job.succeeded, job.failed) == (State.SUCCEEDED, 1, 1)
    item = Item.objects.get(job=job, input_file=bad)
    assert item.state == State.FAILED
    assert item.error == "This image is damaged: it ends too early."
    assert item.attempts == 1


def test_job_fails_when_all_images_fail(user: User) -> None:
    whole = picture_bytes(width=800, height=600, seed=2)
    job = submit(user, [upload(user, "bad.jpg", data=whole[: len(whole) // 2])])
    take_turns(user)
    job.refresh_from_db()
    assert job.state == State.FAILED


def test_results_with_equal_names_get_numbers(user: User) -> None:
    jpeg = upload(user, "sea.jpg", seed=1)
    png = upload(user, "sea.png", data=picture_bytes("PNG", seed=2))
    job = submit(user, [jpeg, png])
    take_turns(user)
    names = Output.objects.filter(item__job=job).values_list("file__name", flat=True)
    assert sorted(names) == ["sea (2).png", "sea.jpg"]


def test_name_conflict_does_not_stop_the_job(user: User) -> None:
    job = submit(user, [upload(user, "a.jpg", seed=1)])
    upload(user, "a.jpg", folder=job.output_folder, seed=9)
    take_turns(user)
    names = File.objects.filter(folder=job.output_folder).values_list("name", flat=True)
    assert sorted(names) == ["a (2).jpg", "a.jpg"]


def test_result_without_lease_is_dropped(user: User) -> None:
    job = submit(user, [upload(user, seed=1)])
    held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=None)
    assert held is not None
    claims.reclaim({item.pk: held.token for item in held.items})
    take_turns(user)
    job.refresh_from_db()
    assert job.succeeded == 1

    from processing.execution.record_results import Done, finish

    finish(held, [Done(held.items[0], State.FAILED, error="too late")])
    job.refresh_from_db()
    assert (job.state, job.succeeded, job.failed) == (State.SUCCEEDED, 1, 0)


def test_an_item_out_of_attempts_fails_with_a_reason_and_closes_the_job(user: User) -> None:
    job = submit(user, [upload(user, seed=1)])
    for _ in range(claims.MAX_ATTEMPTS):
        held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=None)
        assert held is not None
        claims.reclaim({item.pk: held.token for item in held.items})
    item = Item.objects.get(job=job)
    assert (item.state, item.error_code, item.attempts) == (State.FAILED, "worker_lost", 3)
    job.refresh_from_db()
    assert (job.state, job.failed) == (State.FAILED, 1)


def test_a_retried_item_is_claimed_alone(user: User) -> None:
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(6)])
    held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=0.3)
    assert held is not None
    assert len(held.items) == 3
    claims.reclaim({item.pk: held.token for item in held.items})
    sizes = []
    while held := claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=0.01):
        sizes.append(len(held.items))
    assert sizes[:3] == [1, 1, 1]
    assert sum(sizes) == 6


def test_released_items_lose_no_attempt(user: User) -> None:
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(4)])
    held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=0.3)
    assert held is not None
    claims.release(held, held.items)
    assert set(Item.objects.filter(job=job).values_list("state", "attempts")) == {(State.STARTING, 0)}


@pytest.mark.parametrize(
    ("pace", "waiting", "slots", "size"),
    [
        (None, 500, 2, 1),
        (0.03, 500, 2, 33),
        (0.03, 40, 2, 10),
        (0.08, 3, 2, 1),
        (0.03, 3, 2, 3),
        (5, 500, 2, 1),
        (1e-9, 10_000, 1, 256),
    ],
)
def test_chunks_take_a_second_and_shrink_at_the_end(
    pace: float | None, waiting: int, slots: int, size: int
) -> None:
    assert claims.chunk_size(seconds=1, seconds_per_item=pace, waiting=waiting, slots=slots) == size


def test_cancel_ends_the_job_and_drops_what_is_running(user: User) -> None:
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(3)])
    held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=None)
    assert held is not None
    assert transitions.cancel(job.pk) == 3
    assert not claims.renew(held)
    job.refresh_from_db()
    assert (job.state, job.canceled) == (State.CANCELED, 3)
    assert transitions.cancel(job.pk) is None
    assert claims.next_job(owner_id=user.pk, queue="cpu") is None


def test_jobs_of_one_owner_run_in_the_order_of_submission(user: User) -> None:
    first = submit(user, [upload(user, "1.jpg", seed=1)])
    submit(user, [upload(user, "2.jpg", seed=2)])
    take_chunk(user)
    assert Job.objects.get(pk=first.pk).state == State.SUCCEEDED
    assert wakeups.waiting_items(user.pk, "cpu", limit=9) == 1


def test_turn_runs_chunks_of_all_jobs_of_its_owner(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a measured speed, a slot starts with a chunk of one image. The turn has time for all.
    monkeypatch.setattr(work, "_seconds_per_image", {})
    monkeypatch.setattr(wakeups, "TURN_SECONDS", 60.0)
    jobs = [submit(user, [upload(user, f"{m}-{n}.jpg", seed=9 * m + n) for n in range(5)]) for m in range(2)]
    assert take_turns(user) == 1
    assert [Job.objects.get(pk=job.pk).succeeded for job in jobs] == [5, 5]
    assert Item.objects.filter(job__in=jobs).values("started_at").distinct().count() > 2


def test_turn_starts_no_chunk_that_does_not_fit(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second is left after the first image, and the next one takes longer."""
    monkeypatch.setattr(work, "_seconds_per_image", {"blackwhite": 3.0})
    real, ran = engine.run, []

    def slow(*given: Any, **options: Any) -> Any:
        ran.append(1)
        time.sleep(0.5)
        return real(*given, **options)

    monkeypatch.setattr(engine, "run", slow)
    submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(3)])
    work.take_turn(user.pk, "cpu")
    assert len(ran) == 1
    assert wakeups.waiting_items(user.pk, "cpu", limit=9) == 2
