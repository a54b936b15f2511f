"""Tests of pipelines in a browser, with real previews and a real worker."""

import re
from collections.abc import Callable

import pytest
from django.db import transaction
from playwright.sync_api import Page, expect

from accounts.models import User
from drive.files import services as drive
from market.models import Listing, StepModel
from market.pipelines.model_steps import MODELS_OFFERED
from processing.models import Job, State
from tests.browser.test_apps import answer_previews
from tests.browser.test_axe import problems
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.market.factories import marks, model
from tests.market.pipelines.factories import pipeline

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def previews(page: Page) -> list[str]:
    found: list[str] = page.locator("[data-row-step] img").evaluate_all(
        "all => all.map(one => one.hidden ? '' : one.src)"
    )
    return found


def wait_for_previews(page: Page, number: int) -> list[str]:
    expect(page.locator('[data-row-step]:not(.ipau-stale) img[src^="blob:"]')).to_have_count(number)
    return previews(page)


def add(page: Page, app: str) -> None:
    page.get_by_label("step").and_(page.locator("select")).select_option(label=app)
    page.get_by_role("button", name="Add", exact=True).click()


def titles(page: Page) -> list[str]:
    return [title.strip() for title in page.locator("#step-list h2").all_inner_texts()]


def test_two_steps_are_built_previewed_saved_and_run(
    user: User, signed_in_page: Callable[..., Page], celery_worker: Callable[..., LiveWorker]
) -> None:
    celery_worker()
    folder = drive.create_folder(owner=user, parent=None, name="Trip")
    for number in range(3):
        upload(user, f"{number}.jpg", folder=folder, seed=number)
    page = signed_in_page(user)
    page.goto("/pipelines/")
    page.get_by_role("link", name="New pipeline").click()
    add(page, "Pixel art")
    wait_for_previews(page, 1)
    add(page, "Black and white")
    first, second = wait_for_previews(page, 2)
    assert titles(page) == ["1 · Pixel art", "2 · Black and white"]

    # A change of the second step asks for nothing of the first.
    page.locator('[name="s2.contrast"]').fill("60")
    expect(page.locator("[data-row-step=s2] img")).not_to_have_attribute("src", second)
    changed = wait_for_previews(page, 2)
    assert (changed[0], changed[1] == second) == (first, False)

    page.get_by_role("button", name="Move step 2, Black and white, up").click()
    expect(page.locator("#steps-said")).to_have_text("Black and white is now step 1.")
    assert titles(page) == ["1 · Black and white", "2 · Pixel art"]
    expect(page.locator('[name="s2.contrast"]')).to_have_value("60")
    wait_for_previews(page, 2)

    # It can go no higher: the focus passes to its neighbor.
    expect(page.get_by_role("button", name="Move step 1, Black and white, down")).to_be_focused()

    page.get_by_label("Title").fill("Gray blocks")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/pipelines/gray-blocks/")
    expect(page.get_by_text("“Gray blocks” saved.")).to_be_visible()
    wait_for_previews(page, 2)

    page.get_by_role("link", name="Run on a folder").click()
    page.wait_for_url("**/gray-blocks/")
    expect(page.locator("#preview-after[src^='blob:']")).to_be_attached()
    expect(page.get_by_text("2 · Pixel art").first).to_be_visible()
    page.locator('[id="id_pixelart.block"]').fill("20")
    page.get_by_role("tab", name="API").click()
    expect(page.locator("#snippet-python")).to_contain_text('"pixelart.block": 20')
    page.get_by_role("tab", name="Playground").click()
    page.locator("#over").select_option(f"folder:{folder.pk}")
    page.locator("#run").click()
    page.wait_for_url("**/jobs/**")
    expect(page.locator("#job-state .badge").first).to_have_text("Succeeded")
    job = Job.objects.get()
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 3)
    assert [step["operation"] for step in job.recipe["steps"]] == ["blackwhite", "pixelart"]
    assert (job.recipe["steps"][0]["params"]["contrast"], job.recipe["steps"][1]["params"]["block"]) == (
        60,
        20,
    )


def test_a_wrong_setting_is_told_where_it_stands(
    user: User, signed_in_page: Callable[..., Page], celery_worker: Callable[..., LiveWorker]
) -> None:
    celery_worker(queues="preview")
    pipeline(user, ("pixelart", {}), ("blackwhite", {}), ("mosaic", {"mode": "blocks"}))
    page = signed_in_page(user)
    page.goto("/pipelines/night-comic/")
    wait_for_previews(page, 3)
    page.locator('[name="s2.contrast"]').fill("900")
    expect(page.locator('[id="id_s2.contrast_error"]')).to_have_text("Contrast must be at most 100.")
    expect(page.locator("[data-row-step=s2] [data-row-problem]")).to_contain_text("Step 2, Black and white")
    expect(page.locator("[data-row-step=s1].ipau-stale")).to_have_count(0)
    expect(page.locator("[data-row-step=s3].ipau-stale")).to_have_count(1)
    # What it leads to is hidden until it matters, by names that belong to the step.
    expect(page.locator('[name="s2.pattern"]')).to_be_hidden()
    page.locator('[name="s2.finish"]').select_option("dither")
    expect(page.locator('[name="s2.pattern"]')).to_be_visible()
    page.locator('[name="s2.contrast"]').fill("10")
    expect(page.locator('[id="id_s2.contrast_error"]')).to_have_text("")
    wait_for_previews(page, 3)


def test_steps_are_dragged(user: User, signed_in_page: Callable[..., Page]) -> None:
    pipeline(user, "ascii", "blackwhite", "pixelart")
    page = signed_in_page(user, viewport={"width": 1440, "height": 3000})
    page.route("**/preview/", answer_previews)
    page.goto("/pipelines/night-comic/")
    page.locator("[data-step=s3] [data-grip]").drag_to(
        page.locator("[data-step=s1] h2"), target_position={"x": 5, "y": 2}
    )
    expect(page.locator("#steps-said")).to_have_text("Order of the steps changed.")
    assert titles(page) == ["1 · Pixel art", "2 · ASCII art", "3 · Black and white"]
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("saved.")).to_be_visible()
    newest = Listing.objects.get(owner=user).versions.first()
    assert newest is not None
    assert [step["operation"] for step in newest.recipe["steps"]] == ["pixelart", "ascii", "blackwhite"]


def test_a_model_is_found_as_one_types_and_added_by_keys(
    user: User, other_user: User, signed_in_page: Callable[..., Page]
) -> None:
    with marks():
        with transaction.atomic():
            for number in range(MODELS_OFFERED):
                model(user, f"own-{number}")
            model(other_user, "herons", publish=True)
        page = signed_in_page(user)
        page.route("**/preview/", answer_previews)
        page.goto("/pipelines/new/")
        offered = page.locator("#models button")
        expect(offered).to_have_count(MODELS_OFFERED)
        expect(page.get_by_text("There are more.")).to_be_visible()
        page.get_by_label("Title", exact=True).fill("Birds")
        page.get_by_label("Or a model").press_sequentially(f"{other_user.handle} her")
        expect(page.locator("#steps-said")).to_have_text("1 model found.")
        expect(offered).to_have_count(1)
        # Enter neither previews nor saves.
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Search", exact=True)).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=f"Add Herons {other_user.handle}/herons")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#steps-said")).to_have_text("Herons added.")
        assert titles(page) == ["1 · Herons"]
        # The search text and the focus are kept, because the same model may be added twice.
        expect(page.get_by_label("Or a model")).to_have_value(f"{other_user.handle} her")
        expect(page.get_by_role("button", name="Add Herons")).to_be_focused()
        expect(offered).to_contain_text("In this pipeline")
        page.get_by_label("Or a model").fill("nothing like it")
        expect(page.locator("#models")).to_contain_text("No model that you can use")
        expect(page.get_by_label("Title", exact=True)).to_have_value("Birds")
        page.get_by_role("button", name="Save").click()
        page.wait_for_url("**/pipelines/birds/")
    assert StepModel.objects.get().model.listing.name == "herons"


def test_a_model_is_found_and_added_without_scripts(
    user: User, other_user: User, signed_in_page: Callable[..., Page]
) -> None:
    with marks():
        with transaction.atomic():
            model(user)
            model(other_user, "herons", publish=True)
        page = signed_in_page(user, java_script_enabled=False)
        page.goto("/pipelines/new/")
        page.get_by_label("Title", exact=True).fill("Birds")
        page.get_by_label("Or a model").fill("herons")
        page.get_by_role("button", name="Search", exact=True).click()
        expect(page.locator("#models button")).to_have_count(1)
        page.locator("#models button").click()
        expect(page.locator("#step-list h2")).to_have_text("1 · Herons")
        expect(page.get_by_label("Title", exact=True)).to_have_value("Birds")


def test_an_app_takes_its_settings_into_a_pipeline(user: User, signed_in_page: Callable[..., Page]) -> None:
    page = signed_in_page(user)
    page.route("**/preview/", answer_previews)
    page.goto("/apps/ipau/blackwhite/")
    page.locator("#id_contrast").fill("40")
    expect(page.get_by_role("link", name="Add to a pipeline")).to_have_attribute(
        "href", re.compile(r"/pipelines/\?add=blackwhite&contrast=40$")
    )


def test_nothing_serious_for_axe(
    user: User,
    other_user: User,
    signed_in_page: Callable[..., Page],
    celery_worker: Callable[..., LiveWorker],
) -> None:
    celery_worker(queues="preview")
    upload(user)
    pipeline(user, ("pixelart", {}), ("blackwhite", {}), visibility="public")
    with marks(), transaction.atomic():
        model(user)
        model(other_user, "other", publish=True)
    addresses = [
        "/pipelines/",
        "/pipelines/?add=ascii",
        "/pipelines/new/",
        "/pipelines/night-comic/",
        f"/apps/{user.handle}/night-comic/",
        "/apps/",
    ]
    found = problems(signed_in_page(user), addresses)
    assert not found, "\n".join(found)
