"""Speed of models in jobs: summed by device when a chunk is recorded, each image once."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from drive.models import File
from market.models import JobSpeed, Version
from market.pipelines import services
from market.pipelines.model_steps import ModelStep
from processing.execution import model_speed, record_results, work
from processing.execution.thread_pool import Chunk
from processing.fleet import registry
from processing.job_queue import claims, transitions
from processing.models import Item, Job, Output, State
from tests.drive.factories import upload
from tests.market.factories import Marks, marks, model
from tests.pictures import picture_bytes
from tests.processing.execution.test_races import at_once, committed
from tests.processing.factories import FRESH, on_gpu, submit, submit_version, take_turns
from workers import devices
from workers.inference.torch_sessions import TORCH_PROCESSOR, name_device
from workers.plugin import Context, OperationError
from workers.recipe import Recipe, Step

pytestmark = pytest.mark.django_db
STAGES = ("fetch", "decode", "run", "encode", "thumbnail", "store")
NARROW = 64


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def pictures(user: User, number: int) -> list[File]:
    return [upload(user, f"{n:03}.jpg", seed=n) for n in range(number)]


def run(user: User, version: Version, files: list[File], **options: Any) -> Job:
    job = submit_version(user, version, files, **options)
    take_turns(user)
    job.refresh_from_db()
    return job


def assert_equal_to_rows(*jobs: Job) -> JobSpeed:
    """Check the single speed row against the rows of computed items."""
    items = Item.objects.filter(job__in=jobs, state=State.SUCCEEDED, reused=False)
    timings = list(items.values_list("timings", flat=True))
    row = JobSpeed.objects.get()
    assert row.pictures == len(timings) > 0
    assert row.run_ms == pytest.approx(sum(one["run"] for one in timings))
    assert row.slot_ms == pytest.approx(sum(one[stage] for one in timings for stage in STAGES))
    return row


def refuse_narrow_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the family refuse narrow images."""
    real = Marks.run

    def picky(self: Marks, picture: Any, params: Any, context: Context) -> Any:
        if picture.width == NARROW:
            raise OperationError("Not this one.")
        return real(self, picture, params, context)

    monkeypatch.setattr(Marks, "run", picky)


# --- Which images count.


def test_job_records_model_speed_by_device(user: User) -> None:
    version = model(user)
    row = assert_equal_to_rows(run(user, version, pictures(user, 7)))
    assert (row.weights, row.kind, row.device) == (version.weights, "cpu", devices.processor().name)
    assert row.pictures == 7
    assert 0 < row.each_run_ms < row.each_ms


def test_more_jobs_add_to_it(user: User) -> None:
    version, files = model(user), pictures(user, 5)
    jobs = [run(user, version, files, terms=FRESH) for _ in range(3)]
    assert assert_equal_to_rows(*jobs).pictures == 15


def test_reused_results_and_duplicates_do_not_count(user: User) -> None:
    version, files = model(user), pictures(user, 3)
    first = run(user, version, files)
    again = run(user, version, files)
    assert again.reused == 3
    twins = run(user, version, [upload(user, f"twin {n}.jpg", seed=50) for n in range(4)])
    assert twins.reused == 3
    assert assert_equal_to_rows(first, again, twins).pictures == 4


def test_failed_images_do_not_count_and_retried_ones_count_once(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [*pictures(user, 4), upload(user, "narrow.jpg", data=picture_bytes(width=NARROW, seed=9))]
    with monkeypatch.context() as patch:
        refuse_narrow_images(patch)
        job = run(user, model(user), files)
        assert (job.succeeded, job.failed) == (4, 1)
        assert assert_equal_to_rows(job).pictures == 4
        transitions.retry(job.pk)
        take_turns(user)
        assert assert_equal_to_rows(job).pictures == 4
    transitions.retry(job.pk)
    take_turns(user)
    job.refresh_from_db()
    assert (job.succeeded, job.failed) == (5, 0)
    assert assert_equal_to_rows(job).pictures == 5


def test_apps_and_pipelines_record_no_model_speed(user: User) -> None:
    version = model(user)
    files = pictures(user, 2)
    submit(user, files)
    take_turns(user)
    step = ModelStep(owner=user.handle, name="finder")
    chain = services.create_pipeline(owner=user, title="Two", steps=[Step(operation="blackwhite"), step])
    job = run(user, chain.versions.get(), files)
    assert job.succeeded == 2
    assert not JobSpeed.objects.exists()
    alone = services.create_pipeline(owner=user, title="One", steps=[step])
    # The time of a single step is that of its model.
    assert (
        assert_equal_to_rows(run(user, alone.versions.get(), files, terms=FRESH)).weights == version.weights
    )


# --- Exactly once.


def chunk_of(job: Job) -> tuple[claims.Claim, list[Any], model_speed.SpeedSample]:
    """Claim and run all items of a job, without recording them."""
    held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=0.001)
    assert held is not None
    recipe = Recipe.model_validate(job.recipe)
    done = work.runner.run_chunk(held, recipe, Context(models=work.models_of(recipe)), ends=float("inf"))
    pace = model_speed.measure(recipe, Context(), done)
    assert pace is not None
    return held, done.done, pace


def test_a_chunk_that_is_recorded_twice_counts_once(user: User) -> None:
    """This happens when the response of a commit is lost."""
    job = submit_version(user, model(user), pictures(user, 4))
    held, done, pace = chunk_of(job)
    for _ in range(2):
        record_results.finish(held, done, pace)
    assert assert_equal_to_rows(job).pictures == 4


def test_a_slot_that_lost_its_lease_adds_nothing(user: User) -> None:
    job = submit_version(user, model(user), pictures(user, 3))
    late = chunk_of(job)
    claims.reclaim({item.pk: late[0].token for item in late[0].items})
    take_turns(user)
    assert assert_equal_to_rows(job).pictures == 3
    before = JobSpeed.objects.values().get()
    record_results.finish(*late)
    assert JobSpeed.objects.values().get() == before


def test_delivered_images_of_a_canceled_job_count(user: User) -> None:
    version = model(user)
    job = submit_version(user, version, pictures(user, 4))
    held = claims.claim(job=job, slot=registry.this_slot(), slots=1, seconds=1, seconds_per_item=None)
    assert held is not None
    claims.release(held, held.items)
    late = chunk_of(job)
    transitions.cancel(job.pk)
    record_results.finish(*late)
    assert not JobSpeed.objects.exists()
    transitions.retry(job.pk)
    take_turns(user)
    assert assert_equal_to_rows(job).pictures == 4


@pytest.mark.parametrize("moment", ["before", "after"])
def test_failed_finish_records_neither_results_nor_speed(
    user: User, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    job = submit_version(user, model(user), pictures(user, 3))
    given = chunk_of(job)
    add = model_speed.speeds.add_pictures

    def cut(**figures: Any) -> None:
        if moment == "after":
            add(**figures)
        raise DatabaseError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(model_speed.speeds, "add_pictures", cut)
        with pytest.raises(DatabaseError), transaction.atomic():
            record_results.finish(*given)
    assert not JobSpeed.objects.exists()
    assert not Output.objects.exists()
    record_results.finish(*given)
    assert assert_equal_to_rows(job).pictures == 3


@committed
def test_two_owners_who_run_the_same_weights_at_once_add_up(user: User, other_user: User) -> None:
    """Both uploaded the same weights: two models, one row of weights."""
    jobs = []
    for owner in (user, other_user):
        with transaction.atomic():
            version = model(owner)
        jobs += [submit_version(owner, version, pictures(owner, 12), terms=FRESH) for _ in range(2)]
    chunks = [chunk_of(job) for job in jobs]
    # One of them creates the row and the others add to it.
    assert at_once(*(lambda one=one: record_results.finish(*one) for one in chunks)) == []
    assert assert_equal_to_rows(*jobs).pictures == 4 * 12


# --- Number of queries, and devices.


def test_speed_costs_one_statement_per_model_chunk(user: User) -> None:
    version = model(user)
    counts = []
    for with_pace in (False, True):
        job = submit_version(user, version, pictures(user, 6), terms=FRESH)
        held, done, pace = chunk_of(job)
        with CaptureQueriesContext(connection) as asked:
            record_results.finish(held, done, pace if with_pace else None)
        counts.append(len(asked))
        assert sum("market_jobspeed" in query["sql"] for query in asked) == with_pace
    assert counts[1] == counts[0] + 1
    job = submit(user, pictures(user, 6))
    with CaptureQueriesContext(connection) as asked:
        take_turns(user)
    assert not any("market_" in query["sql"] and "INSERT" in query["sql"] for query in asked)


def test_stuck_or_empty_chunk_records_no_speed(user: User) -> None:
    recipe = Recipe.model_validate(model(user).recipe)
    assert model_speed.measure(recipe, Context(), Chunk(seconds=0.1)) is not None
    assert model_speed.measure(recipe, Context(), Chunk(seconds=0.1, is_broken=True)) is None
    assert model_speed.measure(recipe, Context(), Chunk()) is None


def test_models_without_torch_count_for_the_processor(user: User, settings: Any) -> None:
    settings.GPU_DEVICE = TORCH_PROCESSOR
    job = on_gpu(submit_version(user, model(user), pictures(user, 3)))
    take_turns(user, "gpu")
    job.refresh_from_db()
    assert job.succeeded == 3
    row = JobSpeed.objects.get()
    assert (row.kind, row.device, row.pictures) == ("cpu", devices.processor().name, 3)


def test_torch_on_the_processor_has_its_own_device_name() -> None:
    named = name_device(TORCH_PROCESSOR)
    assert (named.kind, named.name) == ("cpu", f"{devices.processor().name} (torch)")
