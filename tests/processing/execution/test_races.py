"""Race conditions between processes, and failures of the database and the broker."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from accounts.models import User
from drive.files import bulk_create, trash
from drive.files.services import Selection
from drive.models import File, Folder
from ipau.common import tasks as sending
from ipau.common.postgresql import retry
from processing.execution import lease_renewal, record_results, runner, work
from processing.fleet import registry
from processing.job_queue import claims, transitions, wakeups
from processing.models import Item, Job, State
from tests.drive.factories import upload
from tests.processing.factories import run_chunk, submit, take_turns

committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db


def claim(job: Job, *, pace: float | None = None) -> claims.Claim:
    held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=pace)
    assert held is not None
    return held


def at_once(*calls: Callable[[], Any]) -> list[Exception]:
    """Run each call in its own thread; return the exceptions."""
    raised: list[Exception] = []
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> None:
        try:
            ready.wait(10)
            call()
        except Exception as error:  # noqa: BLE001  (told to the test)
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return raised


@committed
def test_results_never_go_to_a_trashed_folder(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(user, [upload(user, seed=1)])
    folder = job.output_folder
    assert folder is not None
    looked, insert = threading.Event(), bulk_create.insert_numbered

    def slowly(*given: Any) -> None:
        looked.set()
        time.sleep(0.5)
        insert(*given)

    monkeypatch.setattr(bulk_create, "insert_numbered", slowly)

    def throw_away() -> None:
        assert looked.wait(10)
        trash.trash(owner=user, chosen=Selection(folders=(folder,), files=()))

    assert at_once(lambda: work.take_turn(user.pk, "cpu"), throw_away) == []
    file = File.objects.get(made_by__item__job=job)
    assert file.folder is not None
    assert (file.trashed_at is None) == (file.folder.trashed_at is None)


@committed
def test_an_upload_into_the_output_folder_and_a_finish_do_not_block_each_other(user: User) -> None:
    """Both write the same bytes into the same folder."""
    source = upload(user, "a.jpg", seed=1)
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(12)])

    def uploads() -> None:
        for n in range(12):
            upload(user, f"mine {n}.jpg", folder=job.output_folder, seed=n)

    assert at_once(lambda: take_turns(user), uploads) == []
    job.refresh_from_db()
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 12)
    assert File.objects.filter(folder=job.output_folder).count() == 24
    assert source.folder is None


@pytest.mark.parametrize("gone", ["trashed", "deleted"])
def test_results_go_to_a_new_folder_if_theirs_is_missing(user: User, gone: str) -> None:
    job = submit(user, [upload(user, seed=1)])
    folder = job.output_folder
    assert folder is not None
    held = claim(job)
    if gone == "trashed":
        trash.trash(owner=user, chosen=Selection(folders=(folder,), files=()))
    else:
        folder.delete()
    Folder.objects.create(owner=user, parent=None, name=folder.name)
    record_results.finish(held, run_chunk(held))
    job.refresh_from_db()
    assert job.state == State.SUCCEEDED
    assert job.output_folder is not None
    assert job.output_folder.trashed_at is None
    assert File.objects.filter(folder=job.output_folder).count() == 1


@committed
@pytest.mark.parametrize("failing", ["renew", "store", "finish"])
def test_lost_connection_fails_no_image(user: User, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(lease_renewal, "RENEW_EVERY", -1.0)
    owner, name = {
        "renew": (claims, "renew"),
        "store": (runner, "_store"),
        "finish": (claims, "finish_items"),
    }[failing]
    real, cut = getattr(owner, name), []

    def once(*given: Any) -> Any:
        if not cut:
            cut.append(True)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return real(*given)

    monkeypatch.setattr(owner, name, once)
    job = submit(user, [upload(user, seed=1)])
    work.take_turn(user.pk, "cpu")
    job.refresh_from_db()
    assert cut
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 1)
    assert Item.objects.get(job=job).attempts == 1


@committed
def test_long_database_outage_fails_no_image(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("no server")

    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    job = submit(user, [upload(user, seed=1)])
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_store", away)
        with pytest.raises(OperationalError):
            work.take_turn(user.pk, "cpu")
    # No slot works on the item, and it need not wait for a lease to expire.
    assert Item.objects.get(job=job).state == State.STARTING
    take_turns(user)
    assert Job.objects.get(pk=job.pk).state == State.SUCCEEDED


@committed
def test_claim_with_lost_response_is_released_at_once(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    real = claims.claim

    def unheard(**given: Any) -> None:
        assert real(**given)
        raise OperationalError("the connection was lost after the commit")

    job = submit(user, [upload(user, seed=1)])
    with monkeypatch.context() as patch:
        patch.setattr(claims, "claim", unheard)
        with pytest.raises(OperationalError):
            work.take_turn(user.pk, "cpu")
    item = Item.objects.get(job=job)
    assert (item.state, item.attempts, item.lease_token) == (State.STARTING, 1, None)
    take_turns(user)
    assert Job.objects.get(pk=job.pk).state == State.SUCCEEDED


def test_a_worker_whose_clock_is_wrong_keeps_its_leases(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def late() -> datetime:
        return real() - timedelta(minutes=10)

    real = timezone.now
    job = submit(user, [upload(user, seed=1)])
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", late)
        registry.record_heartbeat(name="w", queues=["cpu"], device="cpu", pids=[7], started_at=late())
        held = claims.claim(job=job, slot=registry.Slot("w", 7), slots=1, seconds=1, seconds_per_item=None)
        assert held is not None
        claims.renew(held)
    assert registry.slots_of("cpu") == 1
    assert registry.lost_leases() == {}
    assert wakeups.find_silent(depth={}) == []


def test_reclaim_releases_only_the_lost_lease(user: User) -> None:
    """Two sweeps at once: the slower one finds the item with its next owner."""
    job = submit(user, [upload(user, seed=1)])
    lost = {item.pk: claim(job).token for item in Item.objects.filter(job=job)}
    assert claims.reclaim(lost) == {(user.pk, "cpu")}
    again = claim(job)
    assert claims.reclaim(lost) == set()
    assert claims.renew(again)
    assert Item.objects.get(job=job).attempts == 2


@committed
def test_finish_and_cancel_at_once_have_one_outcome(user: User) -> None:
    for _ in range(8):
        _finish_and_cancel(user)


def _finish_and_cancel(user: User) -> None:
    job = submit(user, [upload(user, seed=m) for m in range(3)])
    held = claim(job)
    done = run_chunk(held)
    assert at_once(lambda: record_results.finish(held, done), lambda: transitions.cancel(job.pk)) == []
    job.refresh_from_db()
    assert job.state == State.CANCELED
    assert job.succeeded + job.canceled == 3
    assert File.objects.filter(made_by__item__job=job).count() == job.succeeded


@committed
def test_job_is_created_without_broker(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def refuse(*_: Any, **__: Any) -> None:
        sent.append("")
        raise sending.OperationalError("no broker")

    registry.record_heartbeat(
        name="w", queues=["cpu"], device="cpu", pids=range(8), started_at=timezone.now()
    )
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(8)]
    with monkeypatch.context() as patch:
        patch.setattr("celery.app.task.Task.apply_async", refuse)
        job = submit(user, files)
    assert sent == [""]  # a broker that hangs is not waited for eight times
    assert Job.objects.get(pk=job.pk).state == State.STARTING
    monkeypatch.setattr(wakeups, "SILENCE", timedelta(0))
    assert wakeups.find_silent(depth={}) == [(user.pk, "cpu")]
    assert wakeups.replace_lost(owner_id=user.pk, queue="cpu") == 8
