"""Run counts of listings. Runs of a pipeline count for its models too."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from accounts.models import User
from ipau.common.errors import Invalid
from market.listings import services as market
from market.models import Listing, Version
from processing.job_queue import transitions
from processing.jobs.job_spec import Terms
from processing.models import Item, Job, State
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.market.pipelines.test_model_steps import GREY, keep, step_of
from tests.processing.execution.test_races import at_once
from tests.processing.factories import submit_version, take_turns


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def counts(*versions: Version) -> list[int]:
    return [Listing.objects.get(pk=version.listing_id).run_count for version in versions]


@pytest.mark.django_db
def test_a_pipeline_counts_for_itself_and_once_for_each_of_its_models(user: User) -> None:
    one, two, unused = model(user, "one"), model(user, "two", sure=(80, 5)), model(user, "unused")
    version = keep(user, step_of(one), GREY, step_of(two), step_of(one, confidence=0.5))
    submit_version(user, version, [upload(user), upload(user, "b.jpg", seed=2)])
    assert counts(version, one, two, unused) == [2, 2, 2, 0]
    gray = Listing.objects.get(name="blackwhite")
    assert gray.run_count == 0
    submit_version(user, one, [upload(user, "c.jpg", seed=3)])
    assert counts(version, one, two) == [2, 3, 2]


@pytest.mark.django_db
def test_two_releases_of_a_model_count_once(user: User) -> None:
    first, second = model(user), model(user, sure=(10, 5))
    assert first.listing_id == second.listing_id
    version = keep(user, step_of(first, 1), step_of(second, 2))
    submit_version(user, version, [upload(user)])
    assert counts(version, first) == [1, 1]


@pytest.mark.django_db
def test_repeated_requests_and_retries_count_once(user: User) -> None:
    finder = model(user)
    version, picture = keep(user, step_of(finder)), upload(user)
    job = submit_version(user, version, [picture], idempotency_key="once")
    assert submit_version(user, version, [picture], idempotency_key="once") == job
    assert counts(version, finder) == [1, 1]
    Item.objects.filter(job=job).update(state=State.FAILED)
    Job.objects.filter(pk=job.pk).update(failed=1, state=State.FAILED)
    assert transitions.retry(job.pk)[0] == 1
    take_turns(user)
    assert counts(version, finder) == [1, 1]


@pytest.mark.django_db
def test_rejected_jobs_do_not_count(user: User) -> None:
    finder = model(user)
    Listing.objects.filter(pk=finder.listing_id).update(price_each=1000)
    version = keep(user, step_of(finder))
    with pytest.raises(Invalid):
        submit_version(user, version, [upload(user)], terms=Terms(max_price=1))
    assert counts(version, finder) == [0, 0]


@pytest.mark.django_db(transaction=True)
def test_jobs_with_shared_models_do_not_deadlock(
    user: User, other_user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction.atomic():
        one, two = model(user, "one", publish=True), model(user, "two", sure=(80, 5), publish=True)
    there, back = keep(user, step_of(one), step_of(two)), keep(other_user, step_of(two), step_of(one))
    pictures = {person: upload(person) for person in (user, other_user)}
    note_runs = market.note_runs

    def slowly(**given: Any) -> None:
        note_runs(**given)
        time.sleep(0.05)

    monkeypatch.setattr(market, "note_runs", slowly)

    def submit_some(person: User, version: Version) -> None:
        for _ in range(5):
            submit_version(person, version, [pictures[person]])

    assert at_once(lambda: submit_some(user, there), lambda: submit_some(other_user, back)) == []
    assert counts(there, back, one, two) == [5, 5, 10, 10]
