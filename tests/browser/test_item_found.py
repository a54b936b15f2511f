"""Tests of detections on a job's image: filter by class and confidence without another run."""

import json
from collections.abc import Callable, Iterator

import pytest
from django.db import transaction
from playwright.sync_api import Page, expect

from accounts.models import User
from market.listings.services import latest_version
from market.pipelines.model_steps import ModelStep
from market.pipelines.services import create_pipeline
from processing.models import Job
from tests.browser.test_axe import problems
from tests.drive.factories import upload
from tests.market.factories import Marks, MarksParams, marks, model
from tests.market.pipelines.test_model_steps import GREY, step_of
from tests.pictures import picture_bytes
from tests.processing.factories import submit_version, take_turns
from tests.processing.reporting.test_detection_filter import Quiet
from workers import registry
from workers.plugin import Context, PictureView, Result
from workers.recipe import Step
from workers.vision.draw import color_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture
def job(user: User) -> Job:
    """Of a detector that finds a cat and a dog in each of two pictures."""
    with transaction.atomic():
        version = model(user)
    files = [upload(user, f"{n}.jpg", data=picture_bytes(width=640, height=480, seed=n)) for n in range(2)]
    job = submit_version(user, version, files)
    take_turns(user)
    return job


def test_what_was_found_is_narrowed_in_the_dialog(
    user: User, job: Job, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    page.goto(f"/jobs/{job.pk}/")
    page.locator("#item-0").click()
    said = page.locator("#found-said")
    expect(said).to_have_text("2 of 2 shown")
    expect(page.locator("#item-after")).to_be_visible()
    expect(page.locator("#found-picture")).to_be_hidden()

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    dog = page.get_by_role("checkbox", name="dog (1)")
    dog.focus()
    page.keyboard.press("Space")
    expect(said).to_have_text("1 of 2 shown")
    expect(page.locator("#found-picture")).to_be_visible()
    expect(page.locator("#item-after")).to_be_hidden()
    assert '"dog"' not in (page.locator("#found-json").text_content() or "")
    sure = page.get_by_label("Confidence ≥")
    sure.fill("90")
    expect(said).to_have_text("1 of 2 shown")
    sure.press("ArrowRight")
    expect(said).to_have_text("0 of 2 shown")
    sure.press("Home")
    dog.check()
    expect(said).to_have_text("2 of 2 shown")
    expect(page.locator("#item-after")).to_be_visible()
    assert asked == []

    # The next picture begins again.
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    page.locator("#item-1").click()
    expect(page.locator("#viewer-title")).to_have_text("1.jpg")
    expect(page.locator("#found-said")).to_have_text("2 of 2 shown")


def test_what_was_found_lies_where_the_model_says(
    user: User, job: Job, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    page.goto(f"/jobs/{job.pk}/items/0/")
    page.get_by_role("checkbox", name="dog (1)").uncheck()
    expect(page.locator("#found-picture")).to_be_visible()
    assert differences(page, "item-before") == [True, False]


def test_a_class_has_the_color_that_the_worker_gives_it(
    user: User, job: Job, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    page.goto(f"/jobs/{job.pk}/items/0/")
    ids = list(range(30))
    drawn = page.evaluate(
        """async (ids) => {
            const { draw } = await import("/static/processing/drawing.js");
            const picture = document.getElementById("item-before");
            await picture.decode();
            const canvas = document.createElement("canvas");
            return ids.map((class_id) => {
                const place = { x: 320, y: 240, width: 100, height: 100 };
                const one = { ...place, confidence: 0.5, class: "x", class_id };
                draw(canvas, picture, { width: 640, height: 480 }, [one]);
                return [...canvas.getContext("2d").getImageData(270, 240, 1, 1).data.slice(0, 3)];
            });
        }""",
        ids,
    )
    assert [tuple(color) for color in drawn] == [color_of(class_id) for class_id in ids]


def differences(page: Page, base: str) -> list[bool]:
    """Tell whether what is drawn differs from a picture of the page in the middle, and in a corner.

    A cat of 10 x 10 lies in the middle of 640 x 480: its frame is drawn there, and the corner is as it was.
    """
    changed: list[bool] = page.evaluate(
        """(base) => {
            const canvas = document.getElementById("found-picture");
            const plain = document.createElement("canvas");
            [plain.width, plain.height] = [canvas.width, canvas.height];
            plain.getContext("2d").drawImage(document.getElementById(base), 0, 0);
            const at = (from, x, y) => [...from.getContext("2d").getImageData(x, y, 1, 1).data].join();
            return [[315, 240], [10, 470]].map(([x, y]) => at(canvas, x, y) !== at(plain, x, y));
        }""",
        base,
    )
    return changed


def run_pipeline(user: User, *steps: Step | ModelStep) -> Job:
    kept = create_pipeline(owner=user, title="Two", steps=steps)
    data = picture_bytes(width=640, height=480, seed=7)
    job = submit_version(user, latest_version(kept), [upload(user, "p.jpg", data=data)])
    take_turns(user)
    return job


class Guesser(Marks):
    """Says of the whole picture which of many classes it shows."""

    key = "guesser"

    def run(self, picture: PictureView, params: MarksParams, context: Context) -> Result:
        guesses = [{"class": f"<b>{n}</b>", "class_id": n, "confidence": 0.6 / 2**n} for n in range(12)]
        size = {"width": picture.width, "height": picture.height}
        told = {"image": size, "top": "<b>0</b>", "confidence": 0.6, "predictions": guesses}
        return Result(image=picture.rgb(), data=told)


def test_guesses_stand_in_a_list(user: User, signed_in_page: Callable[..., Page]) -> None:
    with registry.register(Guesser()):
        with transaction.atomic():
            version = model(user, family="guesser", task="classify")
        job = submit_version(user, version, [upload(user, "p.jpg", data=picture_bytes())])
        take_turns(user)
    page = signed_in_page(user)
    page.goto(f"/jobs/{job.pk}/items/0/")
    rows = page.get_by_role("list", name="Classes by confidence").get_by_role("listitem")
    expect(rows).to_have_count(10)
    expect(rows.first).to_have_text("<b>0</b>60 %")
    expect(page.locator("#found-said")).to_have_text("<b>0</b>, 60 %")
    expect(page.locator("#found-filter")).to_be_hidden()
    expect(page.locator("#found-json")).to_be_hidden()
    assert problems(page, [page.url]) == []


def test_an_item_of_two_models_shows_the_data_alone(user: User, signed_in_page: Callable[..., Page]) -> None:
    with transaction.atomic():
        version = model(user)
    job = run_pipeline(user, step_of(version), step_of(version))
    page = signed_in_page(user)
    page.goto(f"/jobs/{job.pk}/items/0/")
    expect(page.locator("#found-json")).to_contain_text('"cat"')
    expect(page.locator("#found-filter")).to_be_hidden()


def test_what_one_step_of_a_pipeline_found_is_narrowed(
    user: User, signed_in_page: Callable[..., Page]
) -> None:
    with transaction.atomic():
        finder, namer = model(user), model(user, "namer", sure=(80, 5), task="classify")
    job = run_pipeline(user, GREY, step_of(finder), step_of(namer))
    page = signed_in_page(user)
    page.goto(f"/jobs/{job.pk}/items/0/")
    expect(page.locator("#found-said")).to_have_text("2 of 2 shown")
    expect(page.locator("#item-after")).to_be_visible()
    page.get_by_role("checkbox", name="dog (1)").uncheck()
    expect(page.locator("#found-said")).to_have_text("1 of 2 shown")
    expect(page.get_by_text("Filtered detections are drawn over the original")).to_be_visible()
    assert differences(page, "item-before") == [True, False]
    # Of the other step's data nothing is left out.
    left = json.loads(page.locator("#found-json").text_content() or "")
    assert {name: [one["class"] for one in told["predictions"]] for name, told in left.items()} == {
        "marks": ["cat"],
        "marks2": ["cat"],
    }
    page.get_by_role("checkbox", name="dog (1)").check()
    expect(page.locator("#item-after")).to_be_visible()


def test_what_is_told_of_a_pipeline_s_result_is_drawn_over_that(
    user: User, signed_in_page: Callable[..., Page]
) -> None:
    with registry.register(Quiet()):
        with transaction.atomic():
            version = model(user, family="quiet")
        job = run_pipeline(user, Step(operation="pixelart"), step_of(version))
        page = signed_in_page(user)
        page.goto(f"/jobs/{job.pk}/items/0/")
        expect(page.locator("#found-said")).to_have_text("2 of 2 shown")
        expect(page.locator("#found-picture")).to_be_visible()
        assert differences(page, "item-after") == [True, False]
        assert differences(page, "item-before")[1]


def test_without_scripts_the_drawn_picture_and_the_data_stand(
    user: User, job: Job, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user, java_script_enabled=False)
    page.goto(f"/jobs/{job.pk}/items/0/")
    expect(page.locator("#item-after")).to_be_visible()
    expect(page.locator("#found-json")).to_contain_text('"cat"')
    expect(page.locator("#found-filter")).to_be_hidden()


def test_axe_finds_nothing(user: User, job: Job, signed_in_page: Callable[..., Page]) -> None:
    assert problems(signed_in_page(user), [f"/jobs/{job.pk}/items/0/"]) == []
