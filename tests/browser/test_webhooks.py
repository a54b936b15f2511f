"""Tests of Settings → Webhooks in a browser, with a worker that delivers to a real server."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from accounts.models import User
from processing.models import Delivery
from processing.notifications import signing
from tests.browser.test_axe import problems
from tests.live import LiveWorker
from tests.processing.notifications.receivers import HOST, Receiver, receive

__all__ = ["receive"]
pytestmark = [pytest.mark.browser, pytest.mark.worker]


def test_show_the_secret_and_send_a_test(
    user: User,
    signed_in_page: Callable[..., Page],
    receive: Callable[..., Receiver],
    celery_worker: Callable[..., LiveWorker],
) -> None:
    celery_worker(
        queues="background", IPAU_WEBHOOK_ALLOW_HTTP="true", IPAU_WEBHOOK_ALLOWED_NETWORKS=f"{HOST}/32"
    )
    receiver, page = receive(answer_body=b"got it"), signed_in_page(user)
    secret = signing.secret_of(user).secret
    page.goto("/settings/")
    page.get_by_role("link", name="Webhooks").click()
    page.get_by_role("button", name="Show secret").click()
    expect(page.locator("#webhook-secret")).to_have_value(secret)

    page.get_by_label("Address").fill(receiver.url)
    page.get_by_role("button", name="Send a test").click()
    # The page asks by itself until it is there.
    expect(page.locator("#delivery .badge")).to_have_text("Delivered")
    expect(page.get_by_text("got it")).to_be_visible()
    page.get_by_role("button", name="Deliver again").click()
    expect(page.locator("#delivery tbody tr")).to_have_count(2)
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1

    addresses = ["/settings/webhooks/", f"/settings/webhooks/{Delivery.objects.get().pk}/"]
    assert problems(page, addresses) == []
