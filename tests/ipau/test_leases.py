"""Tests of leases on a real database: races, clocks, and workers that lose a lease."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, OperationalError, connection, models, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import User
from drive.models import File, Upload
from ipau.common import leases
from market.models import ConversionAccount
from processing.models import Delivery
from tests.drive.factories import upload
from tests.processing.wait_for_jobs import connections_there, wait_until

MINUTE = timedelta(minutes=1)
committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db


def row(owner: User) -> Delivery:
    return Delivery.objects.create(owner=owner, event="ping", url="http://127.0.0.1:9/")


def these(*rows: Delivery) -> "models.QuerySet[Delivery]":
    return Delivery.objects.filter(pk__in=[one.pk for one in rows])


def claimed(one: Delivery, lease: timedelta = MINUTE) -> UUID:
    taken = leases.claim_first(these(one), lease=lease)
    assert taken is not None
    assert taken.lease_token is not None
    return taken.lease_token


def let_expire(*rows: Delivery) -> None:
    these(*rows).update(lease_expires_at=Now() - timedelta(milliseconds=1))


def beside(call: Callable[[], Any]) -> threading.Thread:
    """Run in a thread of its own, over a connection of its own."""

    def run() -> None:
        try:
            call()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def race(number: int, call: Callable[[], Any]) -> list[Any]:
    """Call from so many threads at once; return what each got."""
    got: list[Any] = []
    ready = threading.Barrier(number)

    def run() -> None:
        connection.ensure_connection()
        ready.wait(10)
        got.append(call())

    for thread in [beside(run) for _ in range(number)]:
        thread.join(30)
        assert not thread.is_alive()
    assert len(got) == number
    return got


# --- Claims.


@committed
def test_of_two_workers_one_claims_a_row(user: User) -> None:
    one = row(user)
    winners = [won for won in race(2, lambda: leases.claim_first(these(one), lease=MINUTE)) if won]
    assert len(winners) == 1
    one.refresh_from_db()
    assert (one.lease_token, one.attempts) == (winners[0].lease_token, 1)
    assert winners[0].attempts == 1


@committed
def test_of_two_workers_one_claims_by_a_conditional_update(user: User) -> None:
    one = row(user)
    free = these(one).filter(leases.free())
    assert sorted(race(2, lambda: leases.claim(free, token=uuid4(), lease=MINUTE))) == [0, 1]
    one.refresh_from_db()
    assert one.attempts == 1


@committed
def test_many_workers_share_rows_and_claim_none_twice(user: User) -> None:
    rows = these(*[row(user) for _ in range(20)]).order_by("created_at")

    def claim_all() -> list[UUID]:
        mine = []
        while one := leases.claim_first(rows, lease=MINUTE):
            mine.append(one.pk)
        return mine

    got = [key for mine in race(4, claim_all) for key in mine]
    assert sorted(got) == sorted(rows.values_list("pk", flat=True))
    assert set(rows.values_list("attempts", flat=True)) == {1}


@committed
def test_a_row_that_another_worker_locks_is_passed_over(user: User) -> None:
    first, second = row(user), row(user)
    both = these(first, second).order_by("created_at")
    with transaction.atomic():
        assert these(first).select_for_update().get()
        assert race(1, lambda: leases.claim_first(both, lease=MINUTE)) == [second]


@committed
def test_a_lease_runs_out_by_itself(user: User) -> None:
    one = row(user)
    first = claimed(one, timedelta(seconds=0.3))
    assert leases.claim_first(these(one), lease=MINUTE) is None
    time.sleep(0.4)
    assert claimed(one) != first
    one.refresh_from_db()
    assert one.attempts == 2


@pytest.mark.parametrize("wrong", [timedelta(days=-1), timedelta(days=1)])
def test_a_worker_whose_clock_is_wrong_takes_and_loses_nothing(
    user: User, monkeypatch: pytest.MonkeyPatch, wrong: timedelta
) -> None:
    real = timezone.now
    held, lost = row(user), row(user)
    monkeypatch.setattr(timezone, "now", lambda: real() + wrong)
    claimed(held)
    claimed(lost)
    let_expire(lost)
    both = these(held, lost)
    assert list(both.filter(leases.expired())) == [lost]
    assert list(both.filter(leases.held())) == [held]
    assert leases.claim_first(both, lease=MINUTE) == lost
    held.refresh_from_db()
    assert held.lease_expires_at is not None
    assert 58 < (held.lease_expires_at - real()).total_seconds() < 61


def test_conditions(user: User) -> None:
    new, held, late = row(user), row(user), row(user)
    claimed(held)
    claimed(late)
    these(late).update(lease_expires_at=Now() - timedelta(seconds=30))
    rows = these(new, held, late)
    assert set(rows.filter(leases.free())) == {new, late}
    assert set(rows.filter(leases.expired())) == {late}
    assert set(rows.filter(leases.held())) == {held}
    assert set(rows.filter(leases.held(left=MINUTE / 2))) == {held}
    assert set(rows.filter(leases.held(left=2 * MINUTE))) == set()
    assert set(rows.filter(leases.held(left=-MINUTE))) == {held, late}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id FROM processing_delivery AS d WHERE d.{leases.EXPIRED_SQL}")
        assert cursor.fetchall() == [(late.pk,)]
        cursor.execute(f"UPDATE processing_delivery SET {leases.RELEASED_SQL}")
    assert set(rows.filter(leases.free())) == {new, held, late}


# --- Renewals, and what is given back.


def test_a_renewal_lasts_from_now(user: User) -> None:
    one = row(user)
    token = claimed(one, timedelta(seconds=5))
    assert leases.renew(these(one), token=token, lease=MINUTE, url="http://127.0.0.1:10/")
    one.refresh_from_db()
    assert these(one).filter(leases.held(left=timedelta(seconds=55))).exists()
    assert (one.attempts, one.url) == (1, "http://127.0.0.1:10/")


def test_a_late_worker_can_renew_while_nobody_has_taken_over(user: User) -> None:
    one = row(user)
    token = claimed(one)
    let_expire(one)
    assert leases.renew(these(one), token=token, lease=MINUTE)
    assert leases.claim_first(these(one), lease=MINUTE) is None


def test_one_that_was_overtaken_changes_nothing(user: User) -> None:
    one = row(user)
    late = claimed(one)
    let_expire(one)
    now = claimed(one)
    before = these(one).values().get()
    assert not leases.renew(these(one), token=late, lease=MINUTE)
    assert leases.release(these(one), token=late, refund_attempt=True, problem="late") == 0
    assert leases.let_expire(these(one), token=late, after=MINUTE, problem="late") == 0
    assert these(one).values().get() == before
    assert leases.renew(these(one), token=now, lease=MINUTE)


def test_without_a_token_nothing_is_owned(user: User) -> None:
    one = row(user)
    assert not leases.renew(these(one), token=None, lease=MINUTE)
    assert leases.release(these(one), token=None, problem="nobody's") == 0
    assert leases.let_expire(these(one), token=None, after=MINUTE) == 0
    one.refresh_from_db()
    assert (one.problem, one.lease_expires_at) == ("", None)


@pytest.mark.parametrize("refund", [False, True])
def test_each_claim_counts_one_attempt_unless_it_is_refunded(user: User, refund: bool) -> None:
    one = row(user)
    for number in range(3):
        token = claimed(one)
        leases.renew(these(one), token=token, lease=MINUTE)
        leases.renew(these(one), token=token, lease=MINUTE)
        one.refresh_from_db()
        assert one.attempts == (1 if refund else number + 1)
        assert leases.release(these(one), token=token, refund_attempt=refund, problem="full") == 1
        one.refresh_from_db()
        assert (one.lease_token, one.lease_expires_at, one.problem) == (None, None, "full")
    assert one.attempts == (0 if refund else 3)


@pytest.mark.parametrize("refund", [False, True])
def test_a_pause_keeps_others_away_for_its_time(user: User, refund: bool) -> None:
    one = row(user)
    token = claimed(one)
    assert leases.let_expire(these(one), token=token, after=timedelta(seconds=15), refund_attempt=refund)
    assert leases.claim_first(these(one), lease=MINUTE) is None
    one.refresh_from_db()
    assert one.attempts == (0 if refund else 1)
    token = claimed(row(user))
    assert leases.let_expire(Delivery.objects.all(), token=token, after=timedelta()) == 1
    assert Delivery.objects.filter(leases.free()).count() == 1


def test_rows_without_attempts_can_be_leased(user: User) -> None:
    ConversionAccount.objects.create(owner=user)
    token = uuid4()
    rows = ConversionAccount.objects.filter(pk=user.pk)
    assert leases.claim(rows, token=token, lease=MINUTE, counted_until=Now()) == 1
    assert leases.claim_first(rows, lease=MINUTE) is None
    assert leases.release(rows, token=token, counted_until=None) == 1


def test_rows_that_were_never_claimed(user: User) -> None:
    one = row(user)
    claimed(one)
    these(one).update(**leases.never_claimed())
    one.refresh_from_db()
    assert (one.lease_token, one.lease_expires_at, one.attempts) == (None, None, 0)


# --- The thread that renews.


@committed
def test_a_lease_is_kept_for_as_long_as_the_block_runs(user: User) -> None:
    one = row(user)
    lease = timedelta(seconds=0.4)
    token = claimed(one, lease)
    before, threads = connections_there(), threading.active_count()
    with leases.renewing(lambda: leases.renew(these(one), token=token, lease=lease), every=0.1) as lost:
        ends = time.monotonic() + 1.2
        while time.monotonic() < ends:
            assert leases.claim_first(these(one), lease=MINUTE) is None
            time.sleep(0.05)
    assert not lost.is_set()
    assert threading.active_count() == threads
    wait_until(lambda: connections_there() <= before, "a connection is left")
    # Nobody renews it any more.
    time.sleep(0.5)
    assert claimed(one)


@committed
def test_the_holder_hears_that_another_worker_took_over(user: User) -> None:
    one = row(user)
    token = claimed(one)
    with leases.renewing(lambda: leases.renew(these(one), token=token, lease=MINUTE), every=0.05) as lost:
        time.sleep(0.2)
        assert not lost.is_set()
        let_expire(one)
        these(one).update(lease_token=uuid4())
        assert lost.wait(5)


@committed
def test_a_connection_that_is_cut_loses_no_lease(user: User) -> None:
    one = row(user)
    token = claimed(one)
    failed, renewed = threading.Event(), threading.Event()

    def renew() -> bool:
        if not failed.is_set():
            failed.set()
            with pytest.raises(OperationalError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        is_ours = leases.renew(these(one), token=token, lease=MINUTE)
        renewed.set()
        return is_ours

    with leases.renewing(renew, every=0.05) as lost:
        assert failed.wait(5)
        assert renewed.wait(5)
    assert not lost.is_set()


def test_within_a_transaction_no_thread_is_needed(user: User) -> None:
    called: list[bool] = []
    with leases.renewing(lambda: called.append(True) or True, every=0.01) as lost:
        time.sleep(0.1)
    assert not called
    assert not lost.is_set()


# --- What the database refuses, and what it had before.


@pytest.mark.parametrize("half", [{"lease_token": uuid4()}, {"lease_expires_at": timezone.now()}])
@pytest.mark.parametrize("model", [File, Upload])
def test_half_a_lease_is_refused(user: User, model: type[models.Model], half: dict[str, Any]) -> None:
    upload(user)
    Upload.objects.create(owner=user, name="a", length=1, expires_at=timezone.now())
    with pytest.raises(IntegrityError, match="lease_is_whole"), transaction.atomic():
        model._default_manager.update(**half)


@pytest.fixture
def _migrated_again(transactional_db: None) -> Iterator[None]:
    yield
    migrate("0009_leases")
    # Statements that it has prepared are of the tables before.
    connection.close()


@pytest.mark.usefixtures("_migrated_again")
@committed
def test_a_check_under_way_keeps_its_lease_when_the_site_is_updated(user: User) -> None:
    resting, checked = upload(user, "a.jpg"), upload(user, "b.jpg", seed=1)
    sent = Upload.objects.create(owner=user, name="a", length=1, expires_at=timezone.now())
    until = timezone.now() + timedelta(seconds=50)
    migrate("0008_folders_by_name")
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE drive_file SET inspect_until = %s, inspections = 2 WHERE id = %s", [until, checked.pk]
        )
        cursor.execute("UPDATE drive_upload SET check_until = %s, checks = 1", [until])
    migrate("0009_leases")
    for one, attempts in ((checked, 2), (sent, 1)):
        one.refresh_from_db()
        assert (one.lease_expires_at, one.attempts) == (until, attempts)
        assert one.lease_token is not None
    resting.refresh_from_db()
    assert (resting.lease_token, resting.lease_expires_at, resting.attempts) == (None, None, 0)
    # Nobody has that token, so it only runs out.
    assert list(File.objects.filter(leases.free())) == [resting]
    File.objects.filter(pk=checked.pk).update(lease_expires_at=Now() - timedelta(seconds=1))
    assert leases.claim_first(File.objects.filter(pk=checked.pk), lease=MINUTE) == checked


def migrate(name: str) -> None:
    MigrationExecutor(connection).migrate([("drive", name)])
