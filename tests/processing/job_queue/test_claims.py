"""Choice of the next job: slots prefer jobs of loaded models, without starving other jobs."""

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from django.core.cache import cache
from django.core.cache.backends.redis import RedisCache
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from market.models import Version
from processing.execution import work
from processing.fleet import registry
from processing.fleet.registry import Slot
from processing.job_queue import claims
from processing.job_queue import claims as patience
from processing.job_queue.claims import STARVATION_SECONDS
from processing.models import OPEN, Item, Job, State
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.market.factories import marks, model
from tests.processing import counting_family
from tests.processing.factories import FRESH, submit, submit_version, take_chunk
from tests.processing.wait_for_jobs import wait_for_end
from workers import engine
from workers.cache import Cache
from workers.recipe import Recipe

pytestmark = pytest.mark.django_db
T = TypeVar("T")
# Weight of a test model in a slot's cache.
ONE_MODEL = 2


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


class CountingCache(Cache):
    """A slot's cache that counts misses."""

    loads = 0

    def get(self, key: Hashable, make: Callable[[], T], weigh: Callable[[T], int]) -> T:
        def counted() -> T:
            self.loads += 1
            return make()

        return super().get(key, counted, weigh)


class OneSlot:
    """A separate slot in this process."""

    def __init__(self, pid: int, monkeypatch: pytest.MonkeyPatch, *, room: int = ONE_MODEL) -> None:
        self.cache = CountingCache(room)
        self._slot = Slot("tests", pid)
        self._patch = monkeypatch

    def take_chunk(self, user: User) -> None:
        self._patch.setattr(engine, "PROCESS_CACHE", self.cache)
        self._patch.setattr(work, "PROCESS_CACHE", self.cache)
        self._patch.setattr(registry, "this_slot", lambda: self._slot)
        take_chunk(user)


def job_of(user: User, version: Version, *, pictures: int, first: int = 0) -> Job:
    files = [upload(user, f"{version.listing_id}-{n}.jpg", seed=n) for n in range(first, first + pictures)]
    return submit_version(user, version, files, terms=FRESH)


def age_rows(seconds: float) -> None:
    """Move all past times back by `seconds`, in Valkey and in the database."""
    valkey = cache._cache.get_client()
    for key in valkey.scan_iter("*patient:*"):
        left = valkey.pttl(key) - int(seconds * 1000)
        valkey.pexpire(key, left) if left > 0 else valkey.delete(key)
    ago = timedelta(seconds=seconds)
    Job.objects.update(created_at=F("created_at") - ago)
    Item.objects.exclude(completed_at=None).update(completed_at=F("completed_at") - ago)


def digest(version: Version) -> str:
    return Recipe.model_validate(version.recipe).weights()[0]


def next_job_of(user: User, *warm: Version) -> Job | None:
    return claims.next_job(owner_id=user.pk, queue="cpu", warm=[digest(version) for version in warm])


def test_slot_prefers_a_job_with_a_loaded_model(user: User) -> None:
    one, two = model(user, "one"), model(user, "two", sure=(10, 5))
    older, younger = job_of(user, one, pictures=2), job_of(user, two, pictures=2)
    assert next_job_of(user) == older
    assert next_job_of(user, one) == older
    assert next_job_of(user, two) == younger
    assert next_job_of(user, one, two) == older


def test_job_without_model_suits_every_slot(user: User) -> None:
    one, two = model(user, "one"), model(user, "two", sure=(10, 5))
    cold = job_of(user, one, pictures=1)
    plain = submit(user, [upload(user, "plain.jpg", seed=50)])
    job_of(user, two, pictures=1)
    assert next_job_of(user, two) == plain
    assert next_job_of(user) == plain
    assert next_job_of(user, one) == cold


def test_other_owners_jobs_are_not_looked_at(user: User, other_user: User) -> None:
    one, two = model(user, "one"), model(other_user, "two", sure=(10, 5))
    mine = job_of(user, one, pictures=1)
    job_of(other_user, two, pictures=1)
    assert next_job_of(user, two) == mine


def test_a_job_passed_over_for_too_long_goes_first(user: User) -> None:
    one, two = model(user, "one"), model(user, "two", sure=(10, 5))
    older, younger = job_of(user, one, pictures=2), job_of(user, two, pictures=2)
    # Earlier waiting does not count: the job was not first in line.
    age_rows(600)
    assert next_job_of(user, two) == younger
    age_rows(STARVATION_SECONDS - 1)
    assert next_job_of(user, two) == younger
    age_rows(1)
    assert next_job_of(user, two) == older
    # While a slot works on it, and shortly after its last result, other slots may keep their models.
    held = claims.claim(job=older, slot=Slot("other", 1), slots=1, seconds=1, seconds_per_item=None)
    assert held is not None
    assert next_job_of(user, two) == younger
    Item.objects.filter(pk__in=[item.pk for item in held.items]).update(
        state=State.SUCCEEDED, lease_token=None, completed_at=F("started_at")
    )
    assert next_job_of(user, two) == younger
    age_rows(claims.RECENTLY.total_seconds() + 1)
    assert next_job_of(user, two) == older


def test_second_oldest_job_is_not_starved(user: User) -> None:
    """One slot works on the oldest job. The others have a model of younger jobs."""
    one, two, three = (model(user, f"m{n}", sure=(90, n)) for n in range(3))
    oldest, second = job_of(user, one, pictures=2), job_of(user, two, pictures=2)
    younger = job_of(user, three, pictures=2)
    assert claims.claim(job=oldest, slot=Slot("other", 1), slots=1, seconds=1, seconds_per_item=None)
    assert next_job_of(user, three) == younger
    age_rows(STARVATION_SECONDS)
    assert next_job_of(user, three) == second


def test_waiting_younger_job_does_not_go_first(user: User) -> None:
    """Jobs behind the preferred one wait because older jobs go first."""
    one, two = model(user, "one"), model(user, "two", sure=(10, 5))
    older = job_of(user, one, pictures=2)
    job_of(user, two, pictures=2)
    for _ in range(3):
        assert next_job_of(user, one) == older
        age_rows(STARVATION_SECONDS)


def test_jobs_run_in_order_without_valkey(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = model(user, "one"), model(user, "two", sure=(10, 5))
    older, _younger = job_of(user, one, pictures=1), job_of(user, two, pictures=1)
    gone = RedisCache("redis://127.0.0.1:1/0", {})
    monkeypatch.setattr(patience, "cache", gone)
    assert next_job_of(user, two) == older


def test_two_slots_stay_with_their_models(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = model(user, "one"), model(user, "two", sure=(10, 5))
    left, right = OneSlot(1, monkeypatch), OneSlot(2, monkeypatch)
    job_of(user, one, pictures=1)
    left.take_chunk(user)
    job_of(user, two, pictures=1)
    right.take_chunk(user)
    jobs = [job_of(user, one, pictures=6, first=10), job_of(user, two, pictures=6, first=10)]
    for _ in range(6):
        right.take_chunk(user)
        left.take_chunk(user)
    assert set(Job.objects.filter(pk__in=[job.pk for job in jobs]).values_list("state", flat=True)) == {
        State.SUCCEEDED
    }
    assert (left.cache.loads, right.cache.loads) == (1, 1)
    workers = set(Item.objects.filter(job__in=jobs).values_list("job__version__listing__name", "slot"))
    assert workers == {("one", 1), ("two", 2)}


def test_loaded_models_do_not_starve_a_third_job(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each turn the owner submits a job of the loaded model, so that one always waits."""
    warm, cold = model(user, "warm"), model(user, "cold", sure=(10, 5))
    slot = OneSlot(1, monkeypatch)
    job_of(user, warm, pictures=1)
    slot.take_chunk(user)
    third = job_of(user, cold, pictures=3)
    for turn in range(STARVATION_SECONDS + 5):
        job_of(user, warm, pictures=1, first=100 + turn)
        slot.take_chunk(user)
        age_rows(1)
    third.refresh_from_db()
    # After its first image it is the oldest job of a loaded model, so it runs to its end. Then the other
    # model is loaded once more.
    assert third.state == State.SUCCEEDED
    assert slot.cache.loads == 3


@pytest.mark.parametrize("seed", range(2))
def test_oldest_job_never_waits_beyond_the_starvation_limit(
    user: User, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Simulate three slots, four models and random jobs, with turns of a second."""
    chance = random.Random(seed)
    models = [model(user, f"m{n}", sure=(90, n)) for n in range(4)]
    slots = [OneSlot(n, monkeypatch) for n in range(3)]
    unserved: Counter[object] = Counter()
    longest = submitted = 0
    for second in range(30):
        if second < 22 and chance.random() < 0.5:
            submitted += 1
            job_of(user, chance.choice(models), pictures=chance.randint(1, 4), first=1000 * submitted)
        oldest = Job.objects.filter(state__in=OPEN).order_by("id").first()
        before = oldest.done if oldest else 0
        chance.choice(slots).take_chunk(user)
        age_rows(1)
        if oldest is None:
            continue
        oldest.refresh_from_db()
        unserved[oldest.pk] = 0 if oldest.done > before else unserved[oldest.pk] + 1
        longest = max(longest, unserved[oldest.pk])
    # Before it is first passed over, it may have completed a result.
    assert longest <= claims.RECENTLY.total_seconds() + STARVATION_SECONDS + 1
    done = Item.objects.filter(state=State.SUCCEEDED).count()
    assert sum(slot.cache.loads for slot in slots) < done


def test_next_job_costs_at_most_three_queries(user: User) -> None:
    one, two, three = model(user, "one"), model(user, "two", sure=(10, 5)), model(user, "three", sure=(1, 2))
    for number in range(12):
        job_of(user, one, pictures=1, first=number)
    job_of(user, two, pictures=1)
    with CaptureQueriesContext(
        connection,
    ) as looked:
        assert next_job_of(user, one) is not None
    assert len(looked) == 1
    for warm, number in (((two,), 3), ((three,), 2)):
        with CaptureQueriesContext(connection) as looked:
            assert next_job_of(user, *warm) is not None
        assert len(looked) == number


def test_slot_reports_its_loaded_models(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    version = model(user)
    slot = OneSlot(1, monkeypatch)
    job_of(user, version, pictures=1)
    slot.take_chunk(user)
    assert slot.cache.models() == {digest(version)}
    slot.cache.resize(ONE_MODEL - 1)
    assert slot.cache.models() == set()


@pytest.mark.worker
@pytest.mark.django_db(transaction=True)
def test_real_slots_stay_with_their_models(
    user: User, celery_worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    """Three models, two slots with room for one model each. In order of submission, every job would load."""
    log = tmp_path / "loads"
    log.touch()
    with transaction.atomic():
        models = [model(user, f"m{n}", sure=(90, n)) for n in range(3)]
    jobs = [job_of(user, version, pictures=1, first=n) for n in range(7) for version in models]
    celery_worker(
        slots=2,
        include="tests.processing.worker_with_counting_family",
        IPAU_SLOT_CACHE_BYTES=str(ONE_MODEL),
        **{counting_family.LOG: str(log)},
    )
    for job in jobs:
        assert wait_for_end(job).state == State.SUCCEEDED
    loads = log.read_text().splitlines()
    assert len(models) <= len(loads) <= len(jobs) // 2
