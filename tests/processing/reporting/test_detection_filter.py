"""Where what a model found can be drawn anew: over the original, over the result, or nowhere for sure."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest

from accounts.models import User
from drive.models import File
from market.pipelines.model_steps import ModelStep
from processing import services
from processing.jobs.manifests import ManifestRow
from processing.models import Item, Job
from processing.reporting import detection_filter
from processing.reporting.detection_filter import Narrowing, narrowing_of
from tests.drive.factories import upload
from tests.market.factories import Marks, MarksParams, marks, model
from tests.market.pipelines.test_model_steps import GREY, keep, step_of
from tests.processing.factories import submit_version, take_turns
from workers import registry
from workers.plugin import Context, Kept, OutputSpec, PictureView, Result
from workers.recipe import Step

pytestmark = pytest.mark.django_db
ASCII = Step(operation="ascii")
PIXELS = Step(operation="pixelart")


class Quiet(Marks):
    """Finds the same, and makes no picture."""

    key = "quiet"
    outputs: ClassVar[tuple[OutputSpec, ...]] = Marks.outputs

    def keeps(self, params: MarksParams, facts: Mapping[str, Any]) -> Kept:
        return "picture"

    def run(self, picture: PictureView, params: MarksParams, context: Context) -> Result:
        return Result(data=super().run(picture, params, context).data)


@pytest.fixture(autouse=True)
def _families() -> Iterator[None]:
    with marks(), registry.register(Quiet()):
        yield


def ran(user: User, *steps: Step | ModelStep, name: str = "a.jpg") -> Job:
    job = submit_version(user, keep(user, *steps), [upload(user, name)])
    take_turns(user)
    return job


def item_of(job: Job) -> Item:
    return services.get_item(job=job, position=0)


def told(user: User, *steps: Step | ModelStep) -> Narrowing | None:
    return narrowing_of(item_of(ran(user, *steps)))


def test_over_the_original_where_no_other_step_moves_anything(user: User) -> None:
    finder = step_of(model(user))
    shown = Narrowing(over="original", hides=True)
    assert told(user, GREY, finder) == shown
    assert told(user, finder, PIXELS) == shown
    assert told(user, PIXELS, finder, GREY) == shown
    assert told(user, finder) == Narrowing()


def test_nowhere_where_a_step_before_or_after_moves_things(user: User) -> None:
    finder = step_of(model(user))
    assert told(user, ASCII, finder) is None
    assert told(user, finder, ASCII) is None


def test_over_the_result_where_that_is_what_the_model_saw(user: User) -> None:
    quiet = step_of(model(user, family="quiet"))
    assert told(user, ASCII, quiet) == Narrowing(over="result")
    assert told(user, PIXELS, quiet) == Narrowing(over="result")
    # What came after it is another picture; here, nothing has moved.
    assert told(user, quiet, GREY) == Narrowing(hides=True)
    assert told(user, quiet, ASCII) is None


def test_a_classifier_beside_it_does_no_harm(user: User) -> None:
    finder, namer = step_of(model(user)), step_of(model(user, "namer", sure=(80, 5), task="classify"))
    assert told(user, finder, namer) == Narrowing(part="marks", hides=True)
    assert told(user, namer, GREY, finder) == Narrowing(part="marks2", hides=True)
    # Alone it finds no places.
    assert told(user, namer, GREY) is None


def test_two_that_find_things_are_told_as_data_alone(user: User) -> None:
    finder, quiet = step_of(model(user)), step_of(model(user, "quiet", family="quiet"))
    assert told(user, finder, finder) is None
    assert told(user, finder, quiet) is None


def test_pipelines_of_apps_and_items_that_failed_have_nothing_to_narrow(user: User) -> None:
    assert told(user, GREY, PIXELS) is None
    item = item_of(ran(user, GREY, step_of(model(user)), name="b.jpg"))
    item.output = None
    assert narrowing_of(item) is None


@pytest.mark.parametrize(
    "changes", [{"width": 40, "height": 41}, {"width": None, "height": None}], ids=["other shape", "unknown"]
)
def test_only_over_a_picture_of_the_same_shape(user: User, changes: dict[str, Any]) -> None:
    item = item_of(ran(user, GREY, step_of(model(user))))
    assert item.input_file is not None
    for name, value in changes.items():
        setattr(item.input_file, name, value)
    assert narrowing_of(item) is None


@pytest.mark.parametrize("chain", [(), (GREY,)], ids=["model", "pipeline"])
def test_a_file_that_has_got_other_bytes_is_not_the_original(user: User, chain: tuple[Step, ...]) -> None:
    job = ran(user, *chain, step_of(model(user)))
    other = upload(user, "other.jpg", seed=5)
    assert narrowing_of(item_of(job)) is not None
    File.objects.filter(pk=item_of(job).input_file_id).update(blob=other.blob_id)
    item = item_of(job)
    assert not detection_filter.has_original(item)
    assert narrowing_of(item) is None


def test_an_app_that_is_gone_is_not_guessed_at(user: User) -> None:
    item = item_of(ran(user, GREY, step_of(model(user))))
    item.job.recipe["steps"][0]["operation"] = "gone"
    assert narrowing_of(item) is None
    item.job.recipe["steps"][0] = {"operation": "blackwhite", "params": {"contrast": 900}}
    assert narrowing_of(item) is None


def test_a_picture_s_own_settings_count(user: User) -> None:
    class Choosy(Marks):
        key = "choosy"

        def keeps(self, params: MarksParams, facts: Mapping[str, Any]) -> Kept:
            return "nothing" if params.confidence > 0.5 else "places"

    with registry.register(Choosy()):
        finder = step_of(model(user))
        chosen = step_of(model(user, "choosy", family="choosy", task="image"))
        pictures = [upload(user), upload(user, "b.jpg", seed=2)]
        rows = (ManifestRow(1, str(pictures[1].pk), {"choosy.confidence": 0.75}),)
        job = submit_version(user, keep(user, finder, chosen), pictures, table=rows)
        take_turns(user)
        found = [narrowing_of(services.get_item(job=job, position=position)) for position in range(2)]
    assert found == [Narrowing(part="marks", hides=True), None]
