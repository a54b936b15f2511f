"""Fixtures: a real Chromium, one per run, with a new context for each test."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from accounts.models import User

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# A camera that films a test pattern, and whose use nobody has to allow.
ARGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
# Playwright keeps an event loop in this thread, in which Django would refuse to touch the database.
UNSAFE = "DJANGO_ALLOW_ASYNC_UNSAFE"
# What comes comes at once on a machine that has nothing else to do. This one may have.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)
# More than the 150 ms that a page waits before it asks for its preview.
QUIET_SECONDS = 0.25


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    os.environ[UNSAFE] = "true"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield started
        started.close()
    del os.environ[UNSAFE]


@pytest.fixture
def console_problems() -> list[str]:
    """What the page's console complained about. Every page of a test adds to it; see `open_page`."""
    return []


@pytest.fixture
def open_page(
    browser: Browser, live_server: Any, console_problems: list[str]
) -> Iterator[Callable[..., Page]]:
    """Return a way to open pages of 1440 x 900, each in a context of its own, with relative addresses.

    Takes what a context takes: `open_page(viewport={"width": 390, "height": 844})`. Their consoles must stay
    free of errors.
    """
    contexts = []

    def listen(message: ConsoleMessage) -> None:
        # Chromium also reports answers of 4xx and lost connections, which a test may well mean to get.
        refused = message.text.startswith("Failed to load resource") and " status of 5" not in message.text
        if not refused and (message.type == "error" or "Content Security Policy" in message.text):
            console_problems.append(message.text)

    def opened(**options: Any) -> Page:
        given = {"base_url": live_server.url, "viewport": {"width": 1440, "height": 900}, **options}
        context = browser.new_context(**given)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: console_problems.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert console_problems == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """A page in which nobody is signed in."""
    return open_page()


@pytest.fixture
def signed_in_page(open_page: Callable[..., Page], live_server: Any) -> Callable[..., Page]:
    """Return a way to open a page with a user signed in: `signed_in_page(user)`, options as `open_page`."""

    def signed_in(user: User, **options: Any) -> Page:
        client = Client()
        client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
        cookies: SimpleCookie = client.cookies
        page = open_page(**options)
        page.context.add_cookies(
            [
                {"name": name, "value": morsel.value, "url": live_server.url}
                for name, morsel in cookies.items()
            ]
        )
        return page

    return signed_in


@contextmanager
def settled(page: Page) -> Iterator[None]:
    """Do what loads a page; return when it has asked the server for nothing during `QUIET_SECONDS`.

    Playwright's own "networkidle" waits for half a second, on each page.
    """
    under_way: set[Request] = set()
    ends: list[float] = []

    def begin(request: Request) -> None:
        under_way.add(request)

    def end(request: Request) -> None:
        under_way.discard(request)
        ends.append(time.monotonic())

    listeners = {"request": begin, "requestfinished": end, "requestfailed": end}
    for event, listener in listeners.items():
        page.on(event, listener)  # type: ignore[call-overload]  # an overload for each name
    yield
    latest = time.monotonic() + PATIENCE_MS / 1000
    while under_way or time.monotonic() - ends[-1] < QUIET_SECONDS:
        assert time.monotonic() < latest, [request.url for request in under_way]
        page.wait_for_timeout(20)
    for event, listener in listeners.items():
        page.remove_listener(event, listener)


def wait_until(page: Page, script: str, *, seconds: float = PATIENCE_MS / 1000) -> None:
    """Return when a script is true in the page.

    Playwright's own `wait_for_function` asks again by eval, which the site's policy forbids.
    """
    ends = time.monotonic() + seconds
    while not page.evaluate(script):
        assert time.monotonic() < ends, f"Never true: {script}"
        page.wait_for_timeout(50)
