"""Fair conversion queue: owners take turns, one conversion each, within a daily budget."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from django.conf import settings as current
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from drive.models import File
from ipau.common.errors import RateLimited
from market.models import ChosenSample, Conversion, ConversionAccount, ConversionDay, ConversionState, Weights
from market.sandbox import budgets, owner_leases
from market.weights import conversion_queue, conversions, samples_work, services, tasks, trials, work
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.market.weights.fake_sandbox import accepting, refusing, use
from tests.workers.checkpoints.weights_files import safetensors_bytes

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def weights_of(owner: User) -> File:
    return upload(owner, "best.safetensors", data=safetensors_bytes())


def ask(owner: User, name: str = "finder") -> Conversion:
    return conversions.request_conversion(owner=owner, file=weights_of(owner), name=name)


def used(owner: User, seconds: float, *, days_ago: int = 0) -> None:
    day = timezone.now().astimezone(UTC).date() - timedelta(days=days_ago)
    ConversionDay.objects.create(owner=owner, day=day, seconds=seconds)


def seconds_of(owner: User) -> float:
    return sum(ConversionDay.objects.filter(owner=owner).values_list("seconds", flat=True))


def order(**given: Any) -> list[UUID]:
    return [waiting.owner_id for waiting in conversion_queue.list_waiting(**given)]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, refusing())


# --- Order.


def test_owners_alternate_regardless_of_queue_length(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    inner = refusing()

    def convert(*given: Any, **named: Any) -> Any:
        done.append(str(Conversion.objects.get(state=ConversionState.PROCESSING).name))
        # Counts one second without waiting.
        used_by = Conversion.objects.get(state=ConversionState.PROCESSING).owner_id
        budgets.count_seconds(used_by, 1)
        return inner(*given, **named)

    use(monkeypatch, convert)
    for number in range(4):
        ask(user, f"mine-{number}")
    for number in range(2):
        ask(other_user, f"theirs-{number}")
    while conversion_queue.take_turn():
        pass
    assert done[0] == "mine-0"
    assert [set(done[:2]), set(done[2:4])] == [{"mine-0", "theirs-0"}, {"mine-1", "theirs-1"}]
    assert done[4:] == ["mine-2", "mine-3"]


def test_the_owner_with_less_recent_time_comes_first(user: User, other_user: User) -> None:
    ask(user)
    ask(other_user)
    assert order() == [user.pk, other_user.pk]
    used(user, 30)
    assert order() == [other_user.pk, user.pk]
    used(other_user, 40, days_ago=1)
    assert order() == [user.pk, other_user.pk]
    # Old usage does not count.
    ConversionDay.objects.filter(owner=other_user).delete()
    used(other_user, 4000, days_ago=budgets.RECENT_DAYS)
    assert order() == [other_user.pk, user.pk]


def test_one_owner_gets_one_worker_at_a_time(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ask(user), ask(user, "second")
    theirs = ask(other_user)
    version = model(user, "shown")
    listing = version.listing
    ChosenSample.objects.create(listing=listing, position=0, source=theirs.source, digest="0" * 64)
    trials.request_trial(version.weights_id)
    seen: list[Any] = []
    inner = refusing()

    def convert(*given: Any, **named: Any) -> Any:
        if not seen:
            seen.append(order())
            seen.append(work.convert(second.pk))
            seen.append(samples_work.update_samples(listing.pk))
            seen.append(trials.run_trial(version.weights_id))
        return inner(*given, **named)

    use(monkeypatch, convert)
    assert work.convert(first.pk)
    assert seen == [[other_user.pk], False, False, False]
    assert set(order()) == {user.pk, other_user.pk}


def test_samples_and_trials_take_turns_too(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, refusing())
    version = model(user, "shown")
    source = upload(user)
    ChosenSample.objects.create(
        listing=version.listing, position=0, source_id=source.blob_id, digest=source.blob_id
    )
    trials.request_trial(version.weights_id)
    ask(user)
    for _ in range(3):
        assert order() == [user.pk]
        assert conversion_queue.take_turn()
    assert order() == []
    assert Conversion.objects.get(name="finder").state == ConversionState.FAILED
    assert not ChosenSample.objects.get().is_due
    assert Weights.objects.get().speeds.exists()


def test_a_trial_that_kills_its_worker_runs_three_times(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    version = model(user, "shown")

    def die(*_: Any, **__: Any) -> Any:
        raise RuntimeError("killed")

    monkeypatch.setattr(trials.launch, "try_model", die)
    trials.request_trial(version.weights_id)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            conversion_queue.take_turn()
    assert not conversion_queue.take_turn()


def test_the_lease_of_a_dead_worker_expires(user: User, refused: None) -> None:
    ask(user)
    lost = ConversionAccount.objects.create(
        owner=user,
        lease_token=uuid4(),
        lease_expires_at=timezone.now() + timedelta(seconds=5),
        counted_until=timezone.now() - timedelta(seconds=70),
    )
    assert order() == []
    ConversionAccount.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert conversion_queue.take_turn()
    lost.refresh_from_db()
    assert lost.lease_token is None
    # The time that the dead worker had not counted: at most one renewal interval.
    assert owner_leases.RENEW_SECONDS <= seconds_of(user) < owner_leases.RENEW_SECONDS + 5


def test_the_sweep_sees_only_work_that_has_waited(user: User) -> None:
    ask(user)
    assert order(older_than=timedelta(seconds=5)) == []
    Conversion.objects.update(updated_at=timezone.now() - timedelta(seconds=6))
    assert order(older_than=timedelta(seconds=5)) == [user.pk]


@pytest.mark.django_db(transaction=True)
def test_a_wake_up_names_no_conversion(user: User, other_user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = redis.Redis.from_url(current.CELERY_BROKER_URL)
    broker.delete("convert")
    seen: list[int] = []
    inner = refusing()

    def convert(*given: Any, **named: Any) -> Any:
        seen.append(int(broker.llen("convert")))
        return inner(*given, **named)

    use(monkeypatch, convert)
    mine, theirs = ask(user), ask(other_user)
    ask(user, "second")
    # One wake-up for all of them.
    assert broker.llen("convert") == 1
    broker.delete("convert")
    # The argument of an earlier version's message names nobody.
    tasks.convert(str(theirs.pk))
    assert {mine.pk, theirs.pk} > set(
        Conversion.objects.filter(state=ConversionState.FAILED).values_list("pk", flat=True)
    )
    # Another slot is woken for the other owner before the first one begins, and by the end nobody is again.
    assert seen == [1]
    assert broker.llen("convert") == 1
    broker.delete("convert")


# --- Daily budget.


def test_seconds_are_counted_for_every_outcome(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(outcome: Any) -> Any:
        def convert(*given: Any, **named: Any) -> Any:
            ConversionAccount.objects.update(counted_until=timezone.now() - timedelta(seconds=100))
            return outcome(*given, **named)

        return convert

    def die(*_: Any, **__: Any) -> Any:
        raise RuntimeError("killed")

    total = 0
    for outcome in (accepting(), refusing(), die):
        use(monkeypatch, later(outcome))
        ask(user, f"m{total}")
        with contextlib.suppress(RuntimeError):
            conversion_queue.take_turn()
        total += 100
        assert total <= seconds_of(user) < total + 10
    # Deleting the conversion does not change the count.
    Conversion.objects.all().delete()
    services.delete_model(owner=user, name="m0")
    assert seconds_of(user) >= total


def test_a_spent_budget_refuses_new_conversions(user: User, settings: Settings, refused: None) -> None:
    settings.CONVERSION_MINUTES_A_DAY = 2
    conversion = ask(user)
    work.convert(conversion.pk)
    ConversionDay.objects.filter(owner=user).update(seconds=120)
    tomorrow = (timezone.now().astimezone(UTC) + timedelta(days=1)).date().isoformat()
    for again in (
        lambda: ask(user, "other"),
        lambda: conversions.retry_conversion(owner=user, conversion_id=conversion.pk),
    ):
        with pytest.raises(RateLimited, match=rf"2 minutes.*{tomorrow}, 00:00 UTC"):
            again()
    # Usage of yesterday does not count.
    ConversionDay.objects.update(day=timezone.now().astimezone(UTC).date() - timedelta(days=3))
    conversions.retry_conversion(owner=user, conversion_id=conversion.pk)


def test_waiting_conversions_fail_when_the_budget_is_spent(
    user: User, other_user: User, settings: Settings, refused: None
) -> None:
    settings.CONVERSION_MINUTES_A_DAY = 1
    waiting, theirs = ask(user), ask(other_user)
    used(user, 60)
    used(other_user, 59)
    while conversion_queue.take_turn():
        pass
    waiting.refresh_from_db()
    theirs.refresh_from_db()
    assert (waiting.state, waiting.attempts) == (ConversionState.FAILED, 0)
    assert waiting.report["code"] == "conversion_budget"
    assert "Conversions continue at" in waiting.report["sentence"]
    assert theirs.report["code"] == "pickle"
    # Samples wait for the next day instead.
    version = model(user, "shown")
    trials.request_trial(version.weights_id)
    assert order() == []
    ConversionDay.objects.all().delete()
    assert order() == [user.pk]
    again = conversions.retry_conversion(owner=user, conversion_id=waiting.pk)
    assert again.state == ConversionState.STARTING


def test_an_operator_raises_the_budget_of_an_account(user: User, settings: Settings) -> None:
    settings.CONVERSION_MINUTES_A_DAY = 1
    used(user, 61)
    with pytest.raises(RateLimited):
        ask(user)
    ConversionAccount.objects.create(owner=user, minutes_a_day=2)
    ask(user)
    assert budgets.budget_of(user.pk).minutes_left == 1
    ConversionAccount.objects.update(minutes_a_day=0)
    with pytest.raises(RateLimited):
        ask(user, "other")


@pytest.mark.parametrize(("seconds", "left"), [(0, 60), (1, 60), (60, 59), (3541, 1), (3600, 0), (9000, 0)])
def test_minutes_left_are_rounded_up(seconds: float, left: int) -> None:
    budget = budgets.Budget(seconds, 3600, datetime.now(UTC))
    assert (budget.minutes_left, budget.is_spent) == (left, left == 0)


def test_old_days_are_deleted(user: User) -> None:
    used(user, 1, days_ago=200)
    used(user, 1, days_ago=2)
    tasks.sweep()
    assert ConversionDay.objects.count() == 1


def test_pages_and_api_show_the_remaining_budget(user: User, settings: Settings) -> None:
    settings.CONVERSION_MINUTES_A_DAY = 2
    client = Client()
    client.force_login(user)
    used(user, 61)
    assert "1 of 2 conversion minutes" in client.get("/models/new/").content.decode()
    file = weights_of(user)
    ConversionDay.objects.update(seconds=120)
    page = client.get("/models/new/").content.decode()
    assert "0 of 2 conversion minutes" in page
    sent = client.post("/models/new/", {"file": str(file.pk), "name": "finder"})
    assert sent.status_code == 429
    assert "Conversions continue at" in sent.content.decode()
    answer = client.post(
        "/v1/models", {"file": str(file.pk), "name": "finder"}, content_type="application/json"
    )
    assert (answer.status_code, answer.json()["type"]) == (429, "about:blank#conversion_budget")
    until_midnight = int(answer.headers["Retry-After"])
    assert 0 < until_midnight <= 24 * 3600
    assert not Conversion.objects.exists()


# --- Time limits.


def test_the_time_limit_grows_with_the_file(settings: Settings) -> None:
    small, large, huge = (work.limits_for(size) for size in (96_000, 114_400_000, 4 * 1024**3))
    assert (small.cpu, small.wall) == (61, pytest.approx(300, abs=1))
    # The largest YOLO takes 12 seconds.
    assert large.cpu > 5 * 12
    assert huge.cpu == huge.wall == settings.CONVERSION_SECONDS == 600
    settings.CONVERSION_SECONDS = 7
    assert (work.limits_for(96_000).cpu, work.limits_for(96_000).wall) == (7, 7)


def test_database_constraints(user: User) -> None:
    account = ConversionAccount.objects.create(owner=user)
    for wrong in ({"lease_token": uuid4()}, {"lease_expires_at": timezone.now()}):
        with pytest.raises(IntegrityError), transaction.atomic():
            ConversionAccount.objects.filter(pk=account.pk).update(**wrong)
    used(user, 1)
    with pytest.raises(IntegrityError), transaction.atomic():
        used(user, 1)
    with pytest.raises(IntegrityError), transaction.atomic():
        ConversionDay.objects.update(seconds=-1)
