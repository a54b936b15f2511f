"""A number that may be "auto": a checkbox, and a slider behind it, with scripts and without."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import transaction
from playwright.sync_api import Browser, Page, Route, expect

from accounts.models import User
from market.models import Version
from processing.models import Job
from tests.browser.test_axe import findings
from tests.drive.factories import upload
from tests.market.weights.test_install import install
from tests.pictures import picture_bytes

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
MORE = "[data-more-settings] summary"


@pytest.fixture
def detector(user: User) -> Version:
    upload(user)
    with transaction.atomic():
        return install(user)


def address_of(version: Version) -> str:
    return f"/apps/{version.listing.owner.handle}/{version.listing.name}/"


def answer_previews(route: Route) -> None:
    if 'name="output"' in (route.request.post_data or ""):
        route.fulfill(body=json.dumps({"predictions": []}), content_type="application/json")
    else:
        route.fulfill(body=picture_bytes("PNG"), content_type="image/png")


def calls(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.locator('[data-snippet="json"]').text_content() or "")
    return found


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light")])
def test_auto_gives_way_to_a_number_and_back(
    user: User, detector: Version, signed_in_page: Callable[..., Page], width: int, scheme: str
) -> None:
    page = signed_in_page(user, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.route("**/preview/", answer_previews)
    page.goto(address_of(detector))
    page.locator(MORE).click()
    auto = page.get_by_role("checkbox", name="Image size model default")
    number, range_ = page.locator("#id_image_size"), page.get_by_role("slider", name="Image size")
    expect(auto).to_be_checked()
    expect(number).to_be_hidden()
    expect(range_).to_be_hidden()
    assert (calls(page)["image_size"], calls(page)["line_width"]) == ("auto", "auto")
    assert findings(page, "settings") == []

    # By the keyboard alone: the space bar turns it off, and the slider is the next stop.
    auto.focus()
    page.keyboard.press("Space")
    expect(number).to_have_value("640")
    page.keyboard.press("Tab")
    expect(range_).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(number).to_have_value("672")
    assert calls(page)["image_size"] == 672
    assert parse_qs(urlsplit(page.url).query) == {"image_size": ["672"]}
    assert findings(page, "settings") == []

    page.reload()
    expect(number).to_have_value("672")
    expect(auto).not_to_be_checked()
    page.locator("[data-reset]").click()
    expect(auto).to_be_checked()
    expect(number).to_be_hidden()
    assert calls(page)["image_size"] == "auto"
    assert not urlsplit(page.url).query


def test_without_scripts_the_checkbox_decides(
    browser: Browser, live_server: Any, user: User, detector: Version, signed_in_page: Callable[..., Page]
) -> None:
    cookies = signed_in_page(user).context.cookies()
    context = browser.new_context(base_url=live_server.url, java_script_enabled=False)
    context.add_cookies(cookies)  # type: ignore[arg-type]
    plain = context.new_page()
    plain.goto(address_of(detector))
    plain.locator(MORE).click()
    number, auto = plain.locator("#id_line_width"), plain.locator("#id_line_width_auto")
    expect(number).to_be_hidden()
    auto.uncheck()
    number.fill("7")
    plain.locator("#run").click()
    plain.wait_for_url("**/jobs/**")
    assert Job.objects.get().input["line_width"] == 7
    assert Job.objects.get().input["image_size"] == "auto"
    expect(plain.get_by_text("7 px")).to_be_attached()
    expect(plain.get_by_text("model default", exact=True)).to_be_attached()
    expect(plain.get_by_text("≥ 25 %", exact=True)).to_be_attached()

    # A number out of bounds that "auto" hides is no obstacle; one that shows is named.
    plain.goto(address_of(detector))
    plain.locator(MORE).click()
    auto.uncheck()
    number.fill("70")
    plain.locator("#run").click()
    expect(plain.locator("#id_line_width_error")).to_have_text("Line width must be at most 40, or “auto”.")
    expect(number).to_have_value("70")
    auto.check()
    plain.locator("#run").click()
    plain.wait_for_url("**/jobs/**")
    assert Job.objects.order_by("-created_at")[0].input["line_width"] == "auto"
    context.close()
