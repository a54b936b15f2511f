"""Tests of model samples for accounts without images, and of the seller's pages for them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from playwright.sync_api import Page, expect

from accounts.models import User
from ipau.common.http import concurrency
from ipau.common.http.concurrency import Limiter
from market.weights.services import describe_model
from processing.previews import channel
from processing.previews.channel import Answer
from tests.browser.test_axe import problems
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.processing.fake_workers import stand_in
from tests.processing.playground.test_sample_pictures import picture, tried

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture(autouse=True)
def _previews(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer each preview with a green picture and nothing found."""
    stand_in("preview")

    def send(request_id: str, key: str, *_: Any) -> bool:
        data = {"image": {"width": 30, "height": 20}, "predictions": []}
        channel.answer(request_id, key, Answer("image/webp", picture("green"), 30, 20, data=data))
        return True

    monkeypatch.setattr("processing.previews.tasks.send_preview", send)


def test_a_visitor_chooses_a_sample(user: User, page: Page) -> None:
    with transaction.atomic():
        first, telling = tried(model(user, publish=True))
    path = f"/apps/{user.handle}/finder/"
    page.goto(path)
    shown = page.locator("#preview-before")
    expect(shown).to_have_attribute("src", f"/models/samples/{telling.pk}/before.webp")
    expect(page.locator("#preview-after[src^='blob:']")).to_be_visible()
    with page.expect_request(f"**{path}preview/") as asked:
        page.get_by_role("radio", name="All <red>").check(force=True)
    expect(shown).to_have_attribute("src", f"/models/samples/{first.pk}/before.webp")
    assert str(first.pk) in (asked.value.post_data or "")
    assert problems(page, [path, "/models/"]) == []


def test_a_preview_that_a_busy_site_refuses_is_asked_for_again(
    user: User, page: Page, monkeypatch: pytest.MonkeyPatch, console_problems: list[str]
) -> None:
    with transaction.atomic():
        tried(model(user, publish=True))
    asked = []
    page.on("request", lambda request: request.url.endswith("/preview/") and asked.append(request.url))
    with monkeypatch.context() as full:
        full.setattr(concurrency, "_limiter", Limiter(total=0, per_person=1))
        page.goto(f"/apps/{user.handle}/finder/")
        expect(page.locator("#preview-problem")).to_contain_text("Many requests are waiting")
        # Not before the time that the answer named.
        page.wait_for_timeout(1500)
        assert len(asked) == 1
    expect(page.locator("#preview-after[src^='blob:']")).to_be_visible()
    expect(page.locator("#preview-problem")).to_be_hidden()
    # Chromium reports the answer of 503.
    console_problems.clear()


def test_the_pages_of_a_seller_are_accessible(user: User, signed_in_page: Callable[..., Page]) -> None:
    with transaction.atomic():
        tried(model(user, publish=True))
        describe_model(owner=user, name="finder", description="## Limits\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    upload(user, "sea.jpg")
    page = signed_in_page(user)
    paths = [
        "/",
        "/models/finder/about/",
        "/models/finder/samples/",
        f"/apps/{user.handle}/finder/?tab=about",
    ]
    assert problems(page, paths) == []
