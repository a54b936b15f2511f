"""Whether detections can be drawn again: over the original, over the result, or not at all."""

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
    """Returns the same detections without an image."""

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


def filter_of(user: User, *steps: Step | ModelStep) -> Narrowing | None:
    return narrowing_of(item_of(ran(user, *steps)))


def test_over_the_original_if_no_other_step_changes_positions(user: User) -> None:
    finder = step_of(model(user))
    shown = Narrowing(over="original", hides=True)
    assert filter_of(user, GREY, finder) == shown
    assert filter_of(user, finder, PIXELS) == shown
    assert filter_of(user, PIXELS, finder, GREY) == shown
    assert filter_of(user, finder) == Narrowing()


def test_not_drawn_if_another_step_changes_positions(user: User) -> None:
    finder = step_of(model(user))
    assert filter_of(user, ASCII, finder) is None
    assert filter_of(user, finder, ASCII) is None


def test_over_the_result_if_the_model_saw_it(user: User) -> None:
    quiet = step_of(model(user, family="quiet"))
    assert filter_of(user, ASCII, quiet) == Narrowing(over="result")
    assert filter_of(user, PIXELS, quiet) == Narrowing(over="result")
    # The later step makes another image, but keeps all positions.
    assert filter_of(user, quiet, GREY) == Narrowing(hides=True)
    assert filter_of(user, quiet, ASCII) is None


def test_a_classifier_in_the_pipeline_is_harmless(user: User) -> None:
    finder, namer = step_of(model(user)), step_of(model(user, "namer", sure=(80, 5), task="classify"))
    assert filter_of(user, finder, namer) == Narrowing(part="marks", hides=True)
    assert filter_of(user, namer, GREY, finder) == Narrowing(part="marks2", hides=True)
    # A classifier alone has no positions.
    assert filter_of(user, namer, GREY) is None


def test_two_detectors_are_not_drawn(user: User) -> None:
    finder, quiet = step_of(model(user)), step_of(model(user, "quiet", family="quiet"))
    assert filter_of(user, finder, finder) is None
    assert filter_of(user, finder, quiet) is None


def test_pipelines_of_apps_and_failed_items_have_no_filter(user: User) -> None:
    assert filter_of(user, GREY, PIXELS) is None
    item = item_of(ran(user, GREY, step_of(model(user)), name="b.jpg"))
    item.output = None
    assert narrowing_of(item) is None


@pytest.mark.parametrize(
    "changes", [{"width": 40, "height": 41}, {"width": None, "height": None}], ids=["other shape", "unknown"]
)
def test_only_over_an_image_of_the_same_aspect_ratio(user: User, changes: dict[str, Any]) -> None:
    item = item_of(ran(user, GREY, step_of(model(user))))
    assert item.input_file is not None
    for name, value in changes.items():
        setattr(item.input_file, name, value)
    assert narrowing_of(item) is None


@pytest.mark.parametrize("chain", [(), (GREY,)], ids=["model", "pipeline"])
def test_a_replaced_file_is_not_the_original(user: User, chain: tuple[Step, ...]) -> None:
    job = ran(user, *chain, step_of(model(user)))
    other = upload(user, "other.jpg", seed=5)
    assert narrowing_of(item_of(job)) is not None
    File.objects.filter(pk=item_of(job).input_file_id).update(blob=other.blob_id)
    item = item_of(job)
    assert not detection_filter.has_original(item)
    assert narrowing_of(item) is None


def test_an_unknown_app_has_no_filter(user: User) -> None:
    item = item_of(ran(user, GREY, step_of(model(user))))
    item.job.recipe["steps"][0]["operation"] = "gone"
    assert narrowing_of(item) is None
    item.job.recipe["steps"][0] = {"operation": "blackwhite", "params": {"contrast": 900}}
    assert narrowing_of(item) is None


def test_parameters_of_the_item_are_used(user: User) -> None:
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
