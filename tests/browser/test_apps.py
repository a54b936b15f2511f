"""Tests of the scripts of an app's page. The test answers previews itself, to control the timing."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from accounts.models import User
from drive.files import services as drive
from processing.models import Job
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.factories import submit

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
AFTER = "#preview-after"


@pytest.fixture
def person(transactional_db: None, user: User) -> User:
    return user


@pytest.fixture
def desk(person: User, signed_in_page: Callable[[User], Page]) -> Page:
    """A signed-in page whose previews are answered at once with a picture that says its turn."""
    page = signed_in_page(person)
    page.route("**/preview/", answer_previews)
    return page


def answer_previews(route: Route) -> None:
    headers = {"X-Preview-Texts": "text"}
    if 'name="output"' in (route.request.post_data or ""):
        route.fulfill(body="#.#", content_type="text/plain")
    else:
        route.fulfill(body=picture_bytes("PNG"), content_type="image/png", headers=headers)


def preview_shown(page: Page) -> Any:
    return page.locator(AFTER).get_attribute("src")


def wait_for_preview(page: Page, *, other_than: Any = "") -> Any:
    expect(page.locator(f'{AFTER}[src^="blob:"]')).to_be_attached()
    if other_than:
        expect(page.locator(AFTER)).not_to_have_attribute("src", other_than)
    return preview_shown(page)


def test_a_late_answer_never_replaces_a_newer_one(desk: Page, person: User) -> None:
    """The first request is answered after the second: only the second one's picture is shown."""
    upload(person)
    held: list[Route] = []
    desk.unroute("**/preview/")
    desk.route("**/preview/", lambda route: held.append(route))
    desk.goto("/apps/ipau/blackwhite/")
    contrast = desk.locator("#id_contrast")
    while not held:
        desk.wait_for_timeout(20)
    contrast.fill("30")
    while len(held) < 2:
        desk.wait_for_timeout(20)
    answer_previews(held[1])
    newer = wait_for_preview(desk)
    assert 'name="contrast"\r\n\r\n30' in (held[1].request.post_data or "")
    try:
        answer_previews(held[0])
    except Exception as error:  # noqa: BLE001  (the page has given this request up: just as it should)
        assert "handled" in str(error) or "closed" in str(error) or "Invalid" in str(error)  # noqa: PT017
    desk.wait_for_timeout(200)
    assert preview_shown(desk) == newer


DRAG = """slider => {
    for (const value of [1, 2, 3, 4, 5, 6]) {
        slider.value = value;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
}"""


def test_a_dragged_slider_asks_once_it_rests(desk: Page, person: User) -> None:
    upload(person)
    desk.goto("/apps/ipau/blackwhite/")
    first = wait_for_preview(desk)
    asked: list[str] = []
    desk.on("request", lambda request: asked.append(request.url) if "/preview/" in request.url else None)
    # At once, as keys that are sent one by one may come with pauses on a busy machine.
    desk.get_by_role("slider", name="Contrast").evaluate(DRAG)
    wait_for_preview(desk, other_than=first)
    desk.wait_for_timeout(300)
    assert len(asked) == 1
    assert desk.locator("#id_contrast").input_value() == "6"
    assert "contrast=6" in desk.url


def test_settings_that_have_no_effect_are_hidden_and_reset_puts_all_back(desk: Page, person: User) -> None:
    upload(person)
    desk.goto("/apps/ipau/blackwhite/?finish=threshold&auto_threshold=false&threshold=99")
    level = desk.locator("#id_threshold")
    expect(level).to_be_visible()
    expect(level).to_have_value("99")
    desk.get_by_label("Automatic threshold").check()
    expect(level).to_be_hidden()
    desk.get_by_role("link", name="Reset").click()
    expect(desk.locator("#id_finish")).to_have_value("gray")
    expect(desk.get_by_label("Automatic threshold")).to_be_hidden()
    assert "?" not in desk.url


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_the_button_that_runs_is_in_sight_and_hides_nothing_that_has_the_focus(
    person: User, signed_in_page: Callable[..., Page], size: tuple[int, int]
) -> None:
    upload(person)
    page = signed_in_page(person, viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    page.route("**/preview/", answer_previews)
    page.goto("/apps/ipau/ascii/")
    page.get_by_text("More settings").click()
    page.get_by_text("More options").click()
    controls = page.locator("[data-setting]:visible").locator("input:visible, select:visible")
    page.locator("#id_columns").focus()
    for key in ("Tab", "Shift+Tab"):
        for _ in range(controls.count() + 8):
            assert page.evaluate(UNCOVERED), page.evaluate("document.activeElement.outerHTML")
            expect(page.locator("#run")).to_be_in_viewport(ratio=1)
            page.keyboard.press(key)
    if size[0] < 992:
        # Beside its settings there is no room for the preview: it stays above them.
        page.locator("#id_size").focus()
        expect(page.locator(".ipau-stage-card")).to_be_in_viewport(ratio=1)


# Whether the middle of what has the focus is what one sees there.
UNCOVERED = """() => {
    const focused = document.activeElement;
    const box = focused.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return top === focused || focused.contains(top) || Boolean(top?.closest("label")?.contains(focused));
}"""


def test_a_problem_in_a_folded_setting_unfolds_it(desk: Page, person: User) -> None:
    upload(person)
    desk.goto("/apps/ipau/ascii/")
    wait_for_preview(desk)
    expect(desk.locator("#id_size")).to_be_hidden()
    desk.unroute("**/preview/")
    body = {"detail": "No.", "errors": {"size": "Character size must be at most 32."}}
    desk.route(
        "**/preview/",
        lambda route: route.fulfill(
            status=422, body=json.dumps(body), content_type="application/problem+json"
        ),
    )
    desk.locator("#id_columns").fill("90")
    expect(desk.locator("#id_size_error")).to_be_visible()


def test_a_problem_stands_at_its_setting_and_goes_again(desk: Page, person: User) -> None:
    upload(person)
    desk.goto("/apps/ipau/blackwhite/")
    wait_for_preview(desk)
    desk.unroute("**/preview/")
    body = {"detail": "No.", "errors": {"contrast": "Contrast must be at most 100."}}
    # A status that Chromium does not report as an error in the console would not be one to the page.
    desk.route(
        "**/preview/",
        lambda route: route.fulfill(
            status=422, body=json.dumps(body), content_type="application/problem+json"
        ),
    )
    desk.locator("#id_contrast").fill("900")
    expect(desk.locator("#id_contrast_error")).to_have_text("Contrast must be at most 100.")
    expect(desk.locator("#id_contrast")).to_have_attribute("aria-invalid", "true")
    desk.unroute("**/preview/")
    desk.route("**/preview/", answer_previews)
    desk.locator("#id_contrast").fill("90")
    expect(desk.locator("#id_contrast_error")).to_have_text("")


def test_the_calls_follow_the_settings(desk: Page, person: User) -> None:
    upload(person)
    desk.goto("/apps/ipau/pixelart/")
    desk.locator("#id_block").fill("20")
    desk.get_by_label("Outlines").check()
    desk.get_by_role("tab", name="API").click()
    expect(desk.locator("#snippet-curl")).to_contain_text('"block": 20')
    expect(desk.locator("#snippet-curl")).to_contain_text('"outline": true')
    expect(desk.locator("#snippet-python")).to_contain_text('"outline": True,')


def test_another_picture_is_chosen_and_uploaded(desk: Page, person: User, tmp_path: Any) -> None:
    first, second = upload(person, "a.jpg", seed=1), upload(person, "b.jpg", seed=2)
    desk.goto("/apps/ipau/blackwhite/")
    desk.locator(f'label:has(input[value="{first.pk}"])').click()
    expect(desk.locator("#preview-before")).to_have_attribute("src", f"/drive/file/{first.pk}/content/")
    expect(desk.locator("#preview-name")).to_have_text("a.jpg")
    assert f"file={first.pk}" in desk.url
    path = tmp_path / "new.jpg"
    path.write_bytes(picture_bytes(seed=3))
    desk.set_input_files('input[name="pictures"]', path)
    expect(desk.locator("#preview-name")).to_have_text("new.jpg")
    desk.get_by_role("searchbox").fill("b.jp")
    expect(desk.locator('#pictures input[name="file"]')).to_have_count(1)
    assert desk.locator('#pictures input[name="file"]').get_attribute("value") == str(second.pk)


def test_a_text_is_shown_beside_the_picture(desk: Page, person: User) -> None:
    upload(person)
    desk.goto("/apps/ipau/ascii/")
    wait_for_preview(desk)
    desk.get_by_text("As text").click()
    expect(desk.locator("#preview-text")).to_have_text("#.#")


def test_a_box_is_drawn_on_the_picture(desk: Page, person: User) -> None:
    upload(person)
    desk.goto("/apps/ipau/mosaic/")
    wait_for_preview(desk)
    button = desk.get_by_role("button", name="Draw box")
    expect(button).to_be_hidden()
    desk.locator("#id_mode").select_option("blocks")
    desk.locator("#id_area").select_option("box")
    button.click()
    frame = desk.locator("#compare").bounding_box()
    assert frame is not None
    desk.mouse.move(frame["x"] + frame["width"] * 0.1, frame["y"] + frame["height"] * 0.2)
    desk.mouse.down()
    desk.mouse.move(frame["x"] + frame["width"] * 0.6, frame["y"] + frame["height"] * 0.8, steps=4)
    desk.mouse.up()
    values = {
        name: float(desk.locator(f"#id_{name}").input_value()) for name in ("x", "y", "width", "height")
    }
    assert values == pytest.approx({"x": 0.1, "y": 0.2, "width": 0.5, "height": 0.6}, abs=0.02)
    assert "x=0.1&y=0.2" in desk.url


def test_control_enter_runs_over_the_chosen_folder(desk: Page, person: User) -> None:
    folder = drive.create_folder(owner=person, parent=None, name="Trip")
    for number in range(2):
        upload(person, f"{number}.jpg", folder=folder, seed=number)
    desk.goto("/apps/ipau/blackwhite/")
    desk.locator("#over").select_option(f"folder:{folder.pk}")
    expect(desk.locator("#run-text")).to_have_text("Run on 2 images")
    desk.keyboard.press("Control+Enter")
    desk.wait_for_url("**/jobs/**")
    assert Job.objects.get().total == 2
    expect(desk.get_by_text("No worker serves this queue")).to_be_visible()


def test_enter_in_a_field_runs_nothing(desk: Page, person: User) -> None:
    upload(person)
    desk.goto("/apps/ipau/blackwhite/")
    desk.locator("#id_contrast").press("Enter")
    desk.wait_for_timeout(200)
    assert "/apps/ipau/blackwhite/" in desk.url
    assert not Job.objects.exists()


def test_the_poll_of_a_job_ends_with_it(person: User, signed_in_page: Callable[[User], Page]) -> None:
    job = submit(person, [upload(person)])
    page = signed_in_page(person)
    page.goto(f"/jobs/{job.pk}/")
    expect(page.locator("#job-state .badge")).to_have_text("Waiting")
    expect(page.get_by_text("Results appear here when they are ready.")).to_be_visible()
    with page.expect_response("**/progress/**"):
        pass
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-state .badge")).to_have_text("Canceled")
    # The page after the redirect is still fetching its scripts when its badge can be read.
    page.wait_for_load_state("networkidle")
    polled: list[str] = []
    page.on("request", lambda request: polled.append(request.url))
    page.wait_for_timeout(1500)
    assert polled == []


def test_without_scripts_an_app_still_runs(
    browser: Browser, live_server: Any, person: User, page: Page, signed_in_page: Callable[[User], Page]
) -> None:
    upload(person)
    cookies = signed_in_page(person).context.cookies()
    context = browser.new_context(base_url=live_server.url, java_script_enabled=False)
    context.add_cookies(cookies)  # type: ignore[arg-type]
    plain = context.new_page()
    plain.goto("/apps/ipau/blackwhite/")
    expect(plain.locator("#id_threshold")).to_be_visible()
    plain.locator("#id_contrast").fill("40")
    plain.get_by_role("button", name="Preview").click()
    expect(plain.locator("#id_contrast")).to_have_value("40")
    expect(plain.get_by_text("No preview worker is running").first).to_be_visible()
    plain.locator("#run").click()
    plain.wait_for_url("**/jobs/**")
    assert Job.objects.get().recipe["steps"][0]["params"]["contrast"] == 40
    context.close()
