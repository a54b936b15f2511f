"""Tests of malformed and hostile requests: each gets a response, and none a server error."""

import base64
from collections.abc import Callable

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from tests.drive.factories import upload

pytestmark = pytest.mark.django_db
DEEP = base64.urlsafe_b64encode(b"[" * 2000).decode().rstrip("=")


class Unread:
    """A body that must not be read."""

    def read(self, *_: int) -> bytes:
        raise AssertionError("The body was read.")

    readline = read


def test_a_cursor_nested_without_end_is_a_damaged_one(
    user: User, client_of: Callable[..., Client], api: Callable[..., APIClient]
) -> None:
    assert client_of(user).get(f"/drive/?cursor={DEEP}").status_code == 422
    assert api(user).get(f"/v1/files?cursor={DEEP}").status_code == 422


@pytest.mark.parametrize("path", ["/apps/%00/x/", "/apps/a%00b/blackwhite/"])
def test_an_address_with_nul_names_no_app(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/v1/models/%00/x", "/v1/models/ipau/a%00b"])
def test_an_address_with_nul_names_no_model(user: User, api: Callable[..., APIClient], path: str) -> None:
    assert api(user).get(path).status_code == 404


@pytest.mark.parametrize("span", ["0-" + "9" * 5000, "-" + "9" * 5000, "9" * 5000 + "-", "\u0661-"])
def test_a_range_of_no_measure_is_ignored(user: User, api: Callable[..., APIClient], span: str) -> None:
    file = upload(user)
    answer = api(user).get(f"/v1/files/{file.pk}/content", HTTP_RANGE=f"bytes={span}")
    assert (answer.status_code, len(b"".join(answer.streaming_content))) == (200, file.size)


def test_a_key_with_nul_is_refused(user: User, api: Callable[..., APIClient]) -> None:
    answer = api(user).post("/v1/folders", {"name": "x"}, format="json", HTTP_IDEMPOTENCY_KEY="a\0b")
    assert (answer.status_code, answer.json()["type"]) == (422, "about:blank#idempotency_key")


@pytest.mark.parametrize("path", ["/accounts/login/", "/apps/ipau/blackwhite/preview/", "/v1/files"])
def test_a_form_without_end_is_refused_unread(
    user: User, client_of: Callable[..., Client], path: str
) -> None:
    client = client_of(user)
    client.handler.enforce_csrf_checks = True
    form = {"CONTENT_TYPE": "multipart/form-data; boundary=x", "CONTENT_LENGTH": str(10**12)}
    answer = client.post(path, **{**form, "wsgi.input": Unread()})
    assert answer.status_code == 413
