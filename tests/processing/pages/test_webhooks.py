"""Settings page of webhooks."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from processing.models import Delivery, DeliveryState, WebhookSecret
from processing.notifications import signing, work
from processing.services import Terms
from tests.drive.factories import upload
from tests.processing.factories import submit, take_turns
from tests.processing.notifications.receivers import Receiver, receive

__all__ = ["receive"]
pytestmark = pytest.mark.django_db

ClientOf = Callable[[User], Client]
PAGE = "/settings/webhooks/"


def test_the_secret_is_shown_on_request(user: User, client_of: ClientOf) -> None:
    client, secret = client_of(user), signing.secret_of(user).secret
    closed = client.get(PAGE)
    assert secret not in closed.content.decode()
    shown = client.post(f"{PAGE}secret/")
    assert secret in shown.content.decode()
    assert "no-store" in shown["Cache-Control"]
    part = client.post(f"{PAGE}secret/", HTTP_HX_REQUEST="true").content.decode()
    assert secret in part
    assert "<html" not in part
    new = client.post(f"{PAGE}secret/new/").content.decode()
    row = WebhookSecret.objects.get(owner=user)
    assert row.previous == secret
    assert row.secret in new
    assert client.get(f"{PAGE}secret/")["Location"] == PAGE


def test_a_test_is_sent_and_its_response_shown(
    user: User, client_of: ClientOf, receive: Callable[..., Receiver]
) -> None:
    receiver, client = receive(answers=[500, 200], answer_body=b"<script>alert(1)</script>"), client_of(user)
    sent = client.post(f"{PAGE}test/", {"url": receiver.url}, follow=True)
    assert sent.status_code == 200
    assert "hx-trigger" in sent.content.decode()
    work.deliver()
    assert json.loads(receiver.got[0].body)["type"] == "ping"
    delivery = Delivery.objects.get()
    address = reverse("processing:delivery", args=[delivery.pk])
    page = client.get(address).content.decode()
    assert "The receiver answered 500." in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    again = client.post(f"{address}again/", follow=True)
    assert "The delivery is being sent again." in again.content.decode()
    work.deliver()
    page = client.get(address, HTTP_HX_REQUEST="true").content.decode()
    assert "hx-trigger" not in page
    assert "Delivered" in page


def test_errors_are_shown_at_the_address(user: User, client_of: ClientOf) -> None:
    client = client_of(user)
    for url, why in (
        ("https://10.0.0.1/", "private network"),
        ("", "required"),
        ("https://localhost/", "this site"),
    ):
        page = client.post(f"{PAGE}test/", {"url": url})
        assert page.status_code == 422
        assert why in page.content.decode()
        assert f'value="{url}"' in page.content.decode() or not url
    assert not Delivery.objects.exists()


def test_waiting_tests_are_limited(user: User, client_of: ClientOf, receive: Callable[..., Receiver]) -> None:
    url, client = receive().url, client_of(user)
    for _ in range(5):
        assert client.post(f"{PAGE}test/", {"url": url}).status_code == 302
    assert "Several tests" in client.post(f"{PAGE}test/", {"url": url}).content.decode()
    assert Delivery.objects.count() == 5


def test_the_list_is_filtered_and_paged_in_constant_queries(
    user: User, client_of: ClientOf, django_assert_num_queries: Any
) -> None:
    client = client_of(user)
    assert "No deliveries yet" in client.get(PAGE).content.decode()
    for number in (1, 39):
        for n in range(number):
            state = DeliveryState.FAILED if n == 7 else DeliveryState.DELIVERED
            Delivery.objects.create(owner=user, event="ping", url=f"https://a.example/{n}", state=state)
        # Session, account and rows.
        with django_assert_num_queries(3):
            page = client.get(PAGE).content.decode()
    assert page.count("list-group-item") == 30
    assert "cursor=" in page
    failed = client.get(f"{PAGE}?state=failed").content.decode()
    assert failed.count("list-group-item") == 1
    assert "https://a.example/7" in failed


def test_deliveries_of_other_accounts_are_not_found(
    user: User, other_user: User, client_of: ClientOf, receive: Callable[..., Receiver]
) -> None:
    job = submit(other_user, [upload(other_user)], terms=Terms(webhook=receive().url))
    take_turns(other_user)
    delivery = Delivery.objects.get(job=job)
    address = reverse("processing:delivery", args=[delivery.pk])
    stranger = client_of(user)
    assert stranger.get(address).status_code == 404
    assert stranger.post(f"{address}again/").status_code == 404
    assert delivery.url not in stranger.get(PAGE).content.decode()
    owner = client_of(other_user)
    assert f"/jobs/{job.pk}/" in owner.get(address).content.decode()
    assert Client().get(PAGE).status_code == 302
