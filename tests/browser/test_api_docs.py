"""Tests of the Swagger page in a real browser, with the Content Security Policy."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from accounts.models import User


@pytest.mark.browser
def test_the_page_shows_it_within_the_content_policy(page: Page, transactional_db: None) -> None:
    """The fixture `page` fails the test on any complaint of the browser, those of the policy included."""
    answer = page.goto("/api/")
    assert answer is not None
    assert "unsafe" not in answer.headers["content-security-policy"]
    expect(page.locator(".opblock-tag", has_text="Predictions")).to_be_visible()
    preview = page.locator("#operations-Previews-preview_ascii")
    preview.locator(".opblock-summary-control").click()
    expect(preview.get_by_text("Width of the result in characters.")).to_be_visible()


@pytest.mark.browser
def test_the_page_can_be_tried_out_while_signed_in(
    signed_in_page: Callable[..., Page], transactional_db: None, user: User
) -> None:
    page = signed_in_page(user)
    page.goto("/api/")
    block = page.locator("#operations-Folders-folders_create")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.locator("textarea").fill('{"name": "From the page"}')
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table .response .response-col_status")).to_have_text("201")
