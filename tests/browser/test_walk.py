"""End-to-end test of the main path: sign up, upload, preview, run on a folder, open the results.

A real Chromium, a real server, a real Celery worker. Screenshots are kept under `screenshots/`.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core import mail
from playwright.sync_api import Page, expect

from processing.models import Job, State
from tests.live import LiveWorker, celery_worker  # noqa: F401  (a fixture)
from tests.pictures import picture_bytes

pytestmark = [pytest.mark.browser, pytest.mark.worker, pytest.mark.django_db(transaction=True)]
SHOTS = Path(__file__).resolve().parents[2] / "screenshots" / "walk"
PASSWORD = "a long and quiet evening"
SIZES = {"wide": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}


STICKS_OUT = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const sticksOut = (element) => element.getBoundingClientRect().right > width;
    const wider = [...document.querySelectorAll("body *")].filter(sticksOut);
    return ["page", ...wider.slice(0, 5).map((e) => e.outerHTML.slice(0, 200))];
}"""


def what_sticks_out(page: Page, seconds: float = 3) -> list[str]:
    """Return the elements that make a page wider than its screen once it has settled at its new size."""
    ends = time.monotonic() + seconds
    while (found := page.evaluate(STICKS_OUT)) and time.monotonic() < ends:
        page.wait_for_timeout(50)
    return list(found)


@pytest.fixture
def shoot(page: Page) -> Callable[[str], None]:
    """Keep the page as it looks in both themes and on a phone: `shoot("drive")`. Nothing may stick out."""
    SHOTS.mkdir(parents=True, exist_ok=True)

    # A color that is still on its way to the other theme's would be in the picture.
    page.emulate_media(reduced_motion="reduce")

    def take(name: str) -> None:
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)  # type: ignore[arg-type]
            wider = what_sticks_out(page)
            assert wider == [], f"{name} is wider than a screen of {viewport['width']}"
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
                page.screenshot(path=SHOTS / f"{name}-{size}-{theme}.png", full_page=True)
        page.set_viewport_size(SIZES["wide"])  # type: ignore[arg-type]
        page.emulate_media(color_scheme="light")

    return take


def pictures(folder: Path) -> list[Path]:
    paths = [folder / f"view {number}.jpg" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(picture_bytes(width=900, height=600, seed=number))
    return paths


def sign_up(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Sign up").first.click()
    page.locator('input[name="email"]').fill("walker@example.org")
    page.locator('input[name="password1"]').fill(PASSWORD)
    page.locator('input[name="password2"]').fill(PASSWORD)
    page.locator("main").get_by_role("button").first.click()
    page.wait_for_url("**/confirm-email/**")
    code = re.search(r"^\s*([A-Z0-9-]{6,9})\s*$", str(mail.outbox[-1].body), re.MULTILINE)
    assert code is not None, mail.outbox[-1].body
    page.locator('input[name="code"]').fill(code.group(1))
    page.locator("main").get_by_role("button").first.click()
    page.wait_for_url(lambda url: "confirm-email" not in url)


def shown_picture(page: Page) -> str:
    """Return the address of the preview shown: another one each time it changes."""
    return page.locator("#preview-after").get_attribute("src") or ""


def test_from_signing_up_to_finding_the_results(
    page: Page,
    celery_worker: Callable[..., LiveWorker],  # noqa: F811
    shoot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    celery_worker(queues="cpu,background,preview")
    page.goto("/")
    shoot("welcome")
    sign_up(page)

    page.goto("/")
    expect(page.get_by_text("Your drive is empty")).to_be_visible()
    page.goto("/drive/")
    page.set_input_files('input[type="file"][multiple]', pictures(tmp_path))
    thumbnails = page.locator('main img[src*="/thumbnail/"]')
    expect(thumbnails).to_have_count(3)
    shoot("drive")

    page.goto("/apps/")
    shoot("apps")
    page.get_by_role("link", name="Black and white").click()
    after = page.locator("#preview-after")
    expect(after).to_have_attribute("src", re.compile("^blob:"))
    first = shown_picture(page)
    page.locator('input[type="range"][data-range-for="id_contrast"]').fill("60")
    expect(after).not_to_have_attribute("src", first)
    assert page.locator("#id_contrast").input_value() == "60"
    page.wait_for_url("**contrast=60**")
    shoot("playground")

    # All three, by way of a selection; nothing but Ctrl-Enter runs them.
    files = [radio.get_attribute("value") for radio in page.locator('input[name="file"]').all()]
    page.goto("/apps/ipau/blackwhite/?contrast=60&" + "&".join(f"file={file}" for file in files))
    expect(page.locator("#run-text")).to_have_text("Run on 3 images")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/jobs/**")
    expect(page.locator("#job-state .badge")).to_have_text("Succeeded")
    expect(page.locator("#results .ipau-result")).to_have_count(3)
    assert page.title().startswith("Succeeded") or "%" not in page.title()
    shoot("job")

    job = Job.objects.get()
    assert (job.state, job.succeeded) == (State.SUCCEEDED, 3)
    page.locator("#results .ipau-result").first.click()
    expect(page.locator("#viewer img-comparison-slider")).to_be_visible()
    page.wait_for_timeout(400)
    page.screenshot(path=SHOTS / "result.png")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()

    page.get_by_role("link", name="Open results").click()
    expect(page.locator('main img[src*="/thumbnail/"]')).to_have_count(3)
    shoot("results")
    page.goto("/jobs/")
    shoot("jobs")
    page.goto("/")
    shoot("home")
