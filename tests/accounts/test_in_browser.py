"""Settings pages in a real Chromium: scripts work, and the Content Security Policy blocks none of them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from accounts.models import ApiKey, User
from accounts.services import create_api_key

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as patch:
        # Playwright runs an event loop in this thread, so Django assumes asynchronous code.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        started = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrowserContext]:
    # Server threads close the database connection after each request, so that it can be dropped.
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    fresh = browser.new_context(color_scheme="dark", permissions=["clipboard-read", "clipboard-write"])
    yield fresh
    fresh.close()


@pytest.fixture
def page(
    context: BrowserContext, live_server: Any, user: User, client_of: Callable[[User], Client]
) -> Iterator[Page]:
    """A tab of a signed-in account. The test fails if the Content Security Policy blocks anything."""
    cookie = client_of(user).cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    refused: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            refused.append(message.text)

    tab = context.new_page()
    tab.on("console", note)
    tab.on("pageerror", lambda error: refused.append(str(error)))
    tab.goto(f"{live_server.url}/settings/keys/")
    yield tab
    assert refused == []


def test_a_key_is_created_copied_and_revoked(page: Page) -> None:
    page.fill("[name=name]", "Lab")
    page.click("text=Create key")
    page.click("[data-copy-from]")
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.input_value("#new-key")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("text=Revoke")
    page.wait_for_selector(".badge:has-text('Revoked')")
    assert "API key “Lab” revoked." in page.inner_text("#toasts")
    assert ApiKey.objects.get().revoked_at is not None


def test_a_server_error_becomes_a_toast(page: Page, user: User, other_user: User) -> None:
    key = create_api_key(user=user, name="Lab").row
    page.reload()
    ApiKey.objects.filter(pk=key.pk).update(user=other_user)
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("text=Revoke")
    page.wait_for_selector(".toast[data-level=error]")
    assert page.inner_text("#toasts").strip() == "You have no such API key."


def test_an_unreachable_server_becomes_a_toast(page: Page, context: BrowserContext) -> None:
    context.set_offline(True)
    page.fill("[name=name]", "Lab")
    page.click("text=Create key")
    page.wait_for_selector(".toast[data-level=error]")
    assert "cannot be reached" in page.inner_text("#toasts")


def test_an_expired_session_leads_to_sign_in(page: Page, context: BrowserContext) -> None:
    context.clear_cookies(name=settings.SESSION_COOKIE_NAME)
    page.fill("[name=name]", "Lab")
    page.click("text=Create key")
    page.wait_for_url("**/accounts/login/?next=%2Fsettings%2Fkeys%2F")


def test_the_theme_follows_the_system_until_one_is_chosen(page: Page) -> None:
    theme = "document.documentElement.dataset.bsTheme"
    assert page.evaluate(theme) == "dark"
    page.click("[aria-label=Theme]")
    page.click("[data-theme=light]")
    page.reload()
    assert page.evaluate(theme) == "light"


def test_the_keyboard_reaches_the_content_first(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("path", ["/settings/", "/settings/keys/", "/accounts/email/", "/nowhere/"])
def test_nothing_is_wider_than_a_phone(page: Page, live_server: Any, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(live_server.url + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
