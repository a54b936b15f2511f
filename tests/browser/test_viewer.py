"""Tests of the viewer in a real browser: zoom, next and previous, details, compare, delete, back."""

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from accounts.models import User
from drive.files import services
from drive.models import File, Folder
from drive.uploads import work
from processing.models import Output
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_turns

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
LARGE = (2400, 1600)


@pytest.fixture
def user(transactional_db: None) -> User:
    return UserFactory()


@pytest.fixture
def album(user: User) -> Folder:
    """A folder of pictures a.jpg to d.jpg, larger than any screen."""
    folder = services.create_folder(owner=user, parent=None, name="Album")
    for seed, name in enumerate("abcd"):
        data = picture_bytes(width=LARGE[0], height=LARGE[1], seed=seed)
        upload(user, f"{name}.jpg", folder=folder, data=data)
    while work.inspect_uploads(user.pk):
        pass
    return folder


def file_page(name: str) -> str:
    return f"/drive/file/{File.objects.live().get(name=name).pk}/"


def expect_file(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    expect(page).to_have_url(re.compile(str(File.objects.get(name=name).pk)))
    page.wait_for_load_state()  # A key that comes before the script is nobody's.


def width_of(picture: Locator) -> float:
    box = picture.bounding_box()
    assert box
    return box["width"]


def open_file(page: Page, name: str) -> Locator:
    """Open the page of a picture, and return the picture when it can be zoomed."""
    page.goto(file_page(name))
    expect(page.locator("#zoom-scale")).to_contain_text("%")
    return page.locator("[data-zoomable] img")


def test_zoom_by_keys_wheel_and_buttons(
    user: User, album: Folder, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    picture = open_file(page, "a.jpg")
    scale = page.locator("#zoom-scale")
    fitting = width_of(picture)
    assert fitting < LARGE[0] / 2
    page.keyboard.press("+")
    assert width_of(picture) == pytest.approx(1.5 * fitting, rel=0.01)
    page.keyboard.press("-")
    assert width_of(picture) == pytest.approx(fitting, rel=0.01)
    page.keyboard.press("1")
    expect(scale).to_have_text("100 %")
    assert width_of(picture) == pytest.approx(LARGE[0], rel=0.01)

    # It can be dragged, but not out of the frame.
    frame = page.locator("[data-zoomable]").bounding_box()
    before = picture.bounding_box()
    assert frame
    assert before
    middle = (frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 100, middle[1] + 50, steps=4)
    page.mouse.up()
    after = picture.bounding_box()
    assert after
    assert after["x"] - before["x"] == pytest.approx(100, abs=1)
    assert after["y"] - before["y"] == pytest.approx(50, abs=1)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 3000, middle[1] + 3000, steps=4)
    page.mouse.up()
    after = picture.bounding_box()
    assert after
    assert after["x"] == pytest.approx(frame["x"], abs=1)

    page.keyboard.press("0")
    assert width_of(picture) == pytest.approx(fitting, rel=0.01)
    page.mouse.move(*middle)
    page.mouse.wheel(0, -300)
    expect(page.locator(".is-zoomed")).to_be_visible()
    assert width_of(picture) > 1.5 * fitting
    page.get_by_role("button", name="Fit").click()
    expect(page.locator(".is-zoomed")).to_be_hidden()
    page.mouse.dblclick(*middle)
    expect(scale).to_have_text("100 %")
    page.mouse.dblclick(*middle)
    expect(page.locator(".is-zoomed")).to_be_hidden()


def noise(format: str) -> bytes:
    """Return a picture that no format makes small."""
    rng = np.random.default_rng(1)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*reversed(LARGE), 3), dtype=np.uint8)).save(out, format)
    return out.getvalue()


def test_a_view_stands_for_a_large_picture_until_somebody_zooms(
    user: User, signed_in_page: Callable[..., Page]
) -> None:
    for name, format in (("photo.jpg", "JPEG"), ("scan.tif", "TIFF")):
        upload(user, name, data=noise(format))
        work.inspect_uploads(user.pk)
    page = signed_in_page(user)
    for name, close in (("photo.jpg", LARGE[0]), ("scan.tif", 1024)):
        picture = open_file(page, name)
        expect(picture).to_have_js_property("naturalWidth", 1024)
        fitting = width_of(picture)
        page.keyboard.press("1")
        # No browser shows a TIFF; its view takes the original's size and place all the same.
        expect(picture).to_have_js_property("naturalWidth", close)
        assert width_of(picture) == pytest.approx(LARGE[0], rel=0.01)
        page.keyboard.press("0")
        assert width_of(picture) == pytest.approx(fitting, rel=0.01)


def test_steps_keep_the_order_and_escape_returns_to_the_tile(
    user: User, album: Folder, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    page.goto(f"/drive/folder/{album.pk}/?sort=name")
    page.get_by_role("link", name="b.jpg").click()
    expect_file(page, "b.jpg")
    page.evaluate("window.stayed = true")
    for key, name in (("ArrowRight", "c.jpg"), ("ArrowRight", "d.jpg"), ("ArrowLeft", "c.jpg")):
        page.keyboard.press(key)
        expect_file(page, name)
        expect(page).to_have_title(f"{name} · IPAU")
    # The page itself stayed, so a full screen would have.
    assert page.evaluate("window.stayed") is True
    page.keyboard.press("i")
    expect(page.locator("#drive-facts")).to_be_hidden()
    page.keyboard.press("ArrowLeft")
    expect_file(page, "b.jpg")
    expect(page.locator("#drive-facts")).to_be_hidden()
    page.keyboard.press("i")
    expect(page.locator("#drive-facts")).to_contain_text("2400 × 1600")

    page.keyboard.press("Escape")
    page.wait_for_url("**/drive/folder/**")
    expect(page.get_by_role("link", name="b.jpg")).to_be_focused()
    page.keyboard.press("Enter")
    expect_file(page, "b.jpg")


def test_a_search_is_stepped_through_and_returned_to(
    user: User, album: Folder, signed_in_page: Callable[..., Page]
) -> None:
    upload(user, "b at the top.jpg", data=picture_bytes(seed=9))
    work.inspect_uploads(user.pk)
    page = signed_in_page(user)
    page.goto("/drive/search/?q=b&sort=name")
    page.get_by_role("link", name="b at the top.jpg").click()
    page.get_by_label("Next file").click()
    expect_file(page, "b.jpg")
    expect(page.get_by_label("Next file")).to_be_hidden()
    page.keyboard.press("Escape")
    page.wait_for_url("**/drive/search/?q=b**")
    expect(page.get_by_role("link", name="b.jpg")).to_be_focused()


def test_star_rename_delete_and_undo_by_keys(
    user: User, album: Folder, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user)
    page.goto(f"/drive/folder/{album.pk}/?sort=name")
    open_file(page, "b.jpg")
    page.keyboard.press("s")
    expect(page.get_by_label("Star b.jpg")).to_have_attribute("aria-pressed", "true")
    assert File.objects.get(name="b.jpg").starred

    page.keyboard.press("F2")
    field = page.get_by_label("Name", exact=True)
    expect(field).to_be_focused()
    # While a user types, keys are letters.
    page.keyboard.type("second s")
    field.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("second s.jpg")

    page.goto(file_page("a.jpg"))
    expect(page.locator("#zoom-scale")).to_contain_text("%")
    page.keyboard.press("Delete")
    expect_file(page, "c.jpg")
    assert File.objects.get(name="a.jpg").trashed_at
    page.keyboard.press("Delete")
    expect_file(page, "d.jpg")
    # The first of the two notes brings back the first of the two.
    notes = page.locator("#toasts .toast", has_text="moved to the trash")
    expect(notes).to_have_count(2)
    notes.first.get_by_role("button", name="Undo").click()
    expect_file(page, "a.jpg")
    assert not File.objects.get(name="a.jpg").trashed_at

    # The last of a folder leads back to it.
    File.objects.exclude(name="a.jpg").delete()
    page.goto(file_page("a.jpg"))
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/drive/folder/**")
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    expect(page.get_by_text("1 item restored.")).to_be_visible()


def test_moving_shows_the_file_where_it_lies_now(
    user: User, album: Folder, signed_in_page: Callable[..., Page]
) -> None:
    services.create_folder(owner=user, parent=None, name="Target")
    page = signed_in_page(user)
    open_file(page, "c.jpg")
    page.keyboard.press("m")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Target").check()
    dialog.get_by_role("button", name="Move here").click()
    expect(page.locator(".drive-breadcrumb")).to_contain_text("Target")
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    expect(page.locator(".drive-breadcrumb")).to_contain_text("Album")


def test_a_result_is_compared_with_its_original(user: User, signed_in_page: Callable[..., Page]) -> None:
    source = upload(user, "sea.jpg", data=picture_bytes(width=900, height=600))
    work.inspect_uploads(user.pk)
    job = submit(user, [source], params={"contrast": 20})
    take_turns(user)
    result = Output.objects.get(item__job=job).file
    page = signed_in_page(user)
    page.goto(f"/drive/file/{result.pk}/")
    facts = page.locator("#drive-facts")
    expect(facts.get_by_role("row", name="Contrast")).to_contain_text("20 %")
    expect(facts.get_by_role("link", name="sea.jpg")).to_have_attribute("href", f"/drive/file/{source.pk}/")

    page.get_by_role("link", name="Compare").click()
    slider = page.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuenow", "50")
    box = slider.bounding_box()
    assert box
    assert box["width"] / box["height"] == pytest.approx(1.5, rel=0.02)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    expect(slider).to_have_attribute("aria-valuenow", "25")

    page.get_by_role("link", name="Side by side").click()
    expect(page.locator(".drive-pair img")).to_have_count(2)
    page.get_by_role("link", name="Original", exact=True).click()
    expect(page.locator("[data-zoomable] img")).to_have_attribute("src", f"/drive/file/{source.pk}/content/")
    facts.get_by_role("link", name="Job of").click()
    page.wait_for_url(f"**/jobs/{job.pk}/")


class Fingers:
    """Fingers on a page's glass, which is more than Playwright's own `tap`."""

    def __init__(self, page: Page):
        self._session = page.context.new_cdp_session(page)

    def drag(self, *steps: list[tuple[float, float]]) -> None:
        """Put a finger down at each point of the first step, move them through the others, and lift them."""
        self._send("touchStart", steps[0])
        for step in steps[1:]:
            self._send("touchMove", step)
        self._send("touchEnd", [])

    def _send(self, kind: str, points: list[tuple[float, float]]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


def test_a_finger_swipes_and_two_pinch(
    user: User, album: Folder, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(f"/drive/folder/{album.pk}/?sort=name")
    picture = open_file(page, "b.jpg")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("[data-zoomable]").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fingers = Fingers(page)
    fingers.drag(*([(x + shift, y + 3)] for shift in (80, 40, 0, -40, -80)))
    expect_file(page, "c.jpg")

    expect(page.locator("#zoom-scale")).to_contain_text("%")
    fitting = width_of(picture)
    fingers.drag(*([(x - spread, y), (x + spread, y)] for spread in (20, 30, 50, 70)))
    expect(page.locator(".is-zoomed")).to_be_visible()
    assert width_of(picture) > 2 * fitting
    # A finger now moves the picture; it does not step on.
    before = picture.bounding_box()
    fingers.drag(*([(x + shift, y)] for shift in (80, 40, 0, -40, -80)))
    after = picture.bounding_box()
    assert before
    assert after
    assert after["x"] < before["x"] - 50
    expect_file(page, "c.jpg")


def test_without_scripts_there_are_links(
    user: User, album: Folder, signed_in_page: Callable[..., Page]
) -> None:
    page = signed_in_page(user, java_script_enabled=False)
    page.goto(f"/drive/folder/{album.pk}/?sort=name")
    page.get_by_role("link", name="b.jpg").click()
    expect(page.get_by_role("button", name="Zoom in")).to_be_hidden()
    page.get_by_label("Next file").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("c.jpg")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("d.jpg")
    page.get_by_role("button", name="Undo").click()
    assert not File.objects.get(name="c.jpg").trashed_at
