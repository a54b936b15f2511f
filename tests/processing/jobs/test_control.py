"""Retry, cancel and deadline of jobs, and their log lines."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from drive.models import File
from ipau.common.errors import Conflict, Invalid, NotFound
from processing import services
from processing.execution import tasks, work
from processing.fleet import registry
from processing.job_queue import claims, job_log, transitions, wakeups
from processing.models import Ending, Item, Job, JobEvent, Lane, State
from processing.services import Terms
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.execution.test_races import at_once, committed
from tests.processing.factories import submit, take_chunk, take_turns

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_measured_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the speeds of earlier tests, so that a turn starts with one image."""
    monkeypatch.setattr(work, "_seconds_per_image", {})


def damaged(user: User, name: str = "bad.jpg", *, seed: int = 2) -> File:
    whole = picture_bytes(width=800, height=600, seed=seed)
    return upload(user, name, data=whole[: len(whole) // 2])


def mend(item: Item, *, seed: int = 3) -> None:
    """Replace the image of an item by a valid one."""
    item.blob_id = upload(item.job.owner, f"mended {seed}.jpg", seed=seed).blob_id
    item.save(update_fields=["blob"])


def claim(job: Job) -> claims.Claim:
    held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=None)
    assert held is not None
    return held


def kinds(job: Job) -> list[str]:
    return [line.kind for line in job_log.log_of(job)]


def assert_counters_equal_rows(job: Job) -> None:
    job.refresh_from_db()
    for state in (State.SUCCEEDED, State.FAILED, State.CANCELED):
        assert getattr(job, state) == Item.objects.filter(job=job, state=state).count()


# --- Retry.


def test_retry_runs_only_failed_items(user: User) -> None:
    job = submit(user, [upload(user, "good.jpg", seed=1), damaged(user)])
    take_turns(user)
    bad, good = (
        Item.objects.get(job=job, state=State.FAILED),
        Item.objects.get(job=job, state=State.SUCCEEDED),
    )
    mend(bad)

    again = services.retry_job(owner=user, job_id=job.pk)

    assert (again.state, again.failed, again.succeeded, again.completed_at) == (State.STARTING, 0, 1, None)
    bad.refresh_from_db()
    assert (bad.state, bad.attempts, bad.error, bad.error_code) == (State.STARTING, 0, "", "")
    assert Lane.objects.get(owner=user).outstanding == 1
    take_turns(user)
    assert_counters_equal_rows(job)
    assert (job.state, job.succeeded, job.failed) == (State.SUCCEEDED, 2, 0)
    assert Item.objects.get(pk=good.pk).completed_at == good.completed_at
    assert File.objects.filter(folder=job.output_folder).count() == 2


def test_retry_resumes_a_canceled_job(user: User) -> None:
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(4)])
    take_chunk(user)
    services.cancel_job(owner=user, job_id=job.pk)
    assert_counters_equal_rows(job)
    assert (job.succeeded, job.canceled, job.ending) == (1, 3, Ending.PERSON)
    services.retry_job(owner=user, job_id=job.pk)
    take_turns(user)
    assert_counters_equal_rows(job)
    assert (job.state, job.succeeded, job.canceled, job.ending) == (State.SUCCEEDED, 4, 0, "")
    assert kinds(job) == ["submitted", "started", "canceled", "retried", "started", "finished"]


def test_a_job_may_be_retried_while_it_runs(user: User) -> None:
    job = submit(user, [damaged(user), *(upload(user, f"{n}.jpg", seed=n) for n in range(3))])
    take_chunk(user)
    bad = Item.objects.get(job=job, state=State.FAILED)
    mend(bad, seed=9)
    again = services.retry_job(owner=user, job_id=job.pk)
    assert (again.state, again.failed) == (State.PROCESSING, 0)
    assert again.started_at is not None
    take_turns(user)
    assert_counters_equal_rows(job)
    assert job.succeeded == 4


def test_retry_without_failed_items_is_refused(user: User, other_user: User) -> None:
    running = submit(user, [upload(user, seed=1)])
    with pytest.raises(Conflict, match="still running and none of its images has failed"):
        services.retry_job(owner=user, job_id=running.pk)
    take_turns(user)
    with pytest.raises(Conflict, match="No image of this job has failed"):
        services.retry_job(owner=user, job_id=running.pk)
    with pytest.raises(NotFound):
        services.retry_job(owner=other_user, job_id=running.pk)
    running.refresh_from_db()
    assert running.state == State.SUCCEEDED
    assert kinds(running) == ["submitted", "started", "finished"]


@committed
def test_concurrent_retries_count_once(user: User) -> None:
    job = submit(user, [damaged(user, f"{n}.jpg", seed=n) for n in range(3)])
    take_turns(user)
    raised = at_once(*[lambda: services.retry_job(owner=user, job_id=job.pk)] * 3)
    assert [type(error) for error in raised] == [Conflict, Conflict]
    assert_counters_equal_rows(job)
    assert (job.state, job.failed) == (State.STARTING, 0)
    assert wakeups.waiting_items(user.pk, "cpu", limit=9) == 3
    assert JobEvent.objects.filter(job=job, kind="retried").count() == 1


@committed
def test_concurrent_retry_and_cancel_keep_counters_correct(user: User) -> None:
    job = submit(user, [damaged(user), upload(user, "good.jpg", seed=1)])
    take_chunk(user)
    for _ in range(6):
        raised = at_once(
            lambda: services.retry_job(owner=user, job_id=job.pk),
            lambda: services.cancel_job(owner=user, job_id=job.pk),
            lambda: take_chunk(user),
        )
        assert all(isinstance(error, Conflict) for error in raised)
        assert_counters_equal_rows(job)
        open_items = Item.objects.filter(job=job, state__in=("starting", "processing")).exists()
        assert open_items == job.is_open


def test_result_from_before_cancel_and_retry_is_dropped(user: User) -> None:
    job = submit(user, [upload(user, seed=1)])
    held = claim(job)
    services.cancel_job(owner=user, job_id=job.pk)
    services.retry_job(owner=user, job_id=job.pk)
    assert not claims.renew(held)
    claims.release(held, held.items)
    item = Item.objects.get(job=job)
    assert (item.state, item.attempts) == (State.STARTING, 0)


# --- Deadlines.


def past_deadline(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))


def test_the_sweep_ends_a_job_at_its_deadline(user: User) -> None:
    terms = Terms(deadline_at=timezone.now() + timedelta(hours=1))
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(3)], terms=terms)
    other = submit(user, [upload(user, "other.jpg", seed=8)])
    held = claim(job)
    assert transitions.end_overdue() == 0
    past_deadline(job)
    tasks.sweep()
    assert_counters_equal_rows(job)
    assert (job.state, job.ending, job.canceled) == (State.CANCELED, Ending.DEADLINE, 3)
    assert not claims.renew(held)
    assert kinds(job)[-1] == "deadline"
    other.refresh_from_db()
    assert other.is_open


def test_turn_starts_no_item_after_the_deadline(user: User) -> None:
    job = submit(user, [upload(user, seed=1)], terms=Terms(deadline_at=timezone.now() + timedelta(hours=1)))
    past_deadline(job)
    assert work.take_turn(user.pk, "cpu") == 0
    job.refresh_from_db()
    assert (job.state, job.ending) == (State.CANCELED, Ending.DEADLINE)
    assert Item.objects.get(job=job).attempts == 0


def test_retry_after_the_deadline_removes_it(user: User) -> None:
    job = submit(user, [upload(user, seed=1)], terms=Terms(deadline_at=timezone.now() + timedelta(hours=1)))
    past_deadline(job)
    tasks.sweep()
    assert services.retry_job(owner=user, job_id=job.pk).deadline_at is None
    take_turns(user)
    job.refresh_from_db()
    assert (job.state, job.ending) == (State.SUCCEEDED, "")
    assert "The deadline had passed and was removed." in job_log.log_of(job)[-3].text


def test_retry_before_the_deadline_keeps_it(user: User) -> None:
    until = timezone.now() + timedelta(hours=1)
    job = submit(user, [damaged(user)], terms=Terms(deadline_at=until))
    take_turns(user)
    assert services.retry_job(owner=user, job_id=job.pk).deadline_at == until


def test_a_deadline_that_has_passed_is_refused(user: User) -> None:
    with pytest.raises(Invalid, match="deadline has already passed"):
        submit(user, [upload(user, seed=1)], terms=Terms(deadline_at=timezone.now() - timedelta(seconds=1)))
    assert not Job.objects.exists()


# --- The log.


def test_the_log_counts_failures_by_reason_and_stays_short(user: User) -> None:
    job = submit(user, [damaged(user, f"{n}.jpg", seed=n) for n in range(6)])
    take_turns(user)
    failed = JobEvent.objects.get(job=job, kind="failed")
    assert failed.details["n"] == 6
    assert job_log.text_of(failed) == "6 images failed. This image is damaged: it ends too early."
    services.retry_job(owner=user, job_id=job.pk)
    take_turns(user)
    assert [e.details["n"] for e in JobEvent.objects.filter(job=job, kind="failed").order_by("id")] == [6, 6]


def test_many_failure_reasons_share_few_log_lines(user: User) -> None:
    job = submit(user, [upload(user, seed=1)])
    for n in range(3 * job_log.MAX_TALLIES):
        job_log.tally(job.pk, job_log.Kind.FAILED, 1, code="x", reason=f"Reason {n}.")
    lines = JobEvent.objects.filter(job=job, kind="failed")
    assert lines.count() == job_log.MAX_TALLIES + 1
    assert sum(line.details["n"] for line in lines) == 3 * job_log.MAX_TALLIES
    assert job_log.log_of(job)[-1].text == f"{2 * job_log.MAX_TALLIES} images failed."


def test_log_names_lost_workers_and_storage_outages(user: User) -> None:
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(2)])
    held = claim(job)
    claims.reclaim({item.pk: held.token for item in held.items})
    held = claim(job)
    claims.let_expire(held, held.items, after=timedelta(0), code="storage")
    claims.reclaim(registry.lost_leases())
    assert kinds(job) == ["submitted", "started", "lost", "delayed"]
    assert job_log.log_of(job)[2].text.endswith("was lost while it ran 1 image, which will be retried.")
    assert Item.objects.filter(job=job, error_code="").count() == 2


def test_every_event_kind_has_a_text() -> None:
    for kind in job_log.Kind:
        assert job_log.text_of(JobEvent(kind=kind, details={"n": 2})) != kind
