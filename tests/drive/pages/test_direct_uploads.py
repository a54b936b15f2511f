"""The protocol by which pages send files into the bucket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from drive.models import File, Upload
from drive.uploads import tasks
from tests.drive.uploads.direct import MB, put_to

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("offered")]


def test_the_pages_protocol(
    user: User, other_user: User, client_of: Callable[..., Client], large_picture: bytes
) -> None:
    client = client_of(user)
    told = {"name": "sea.png", "path": "", "folder": "", "length": len(large_picture), "key": "k"}
    begun = client.post("/drive/upload/direct/", told)
    assert begun.status_code == 201
    body = begun.json()
    assert (body["stage"], body["part_size"], body["parts"], body["received"]) == ("receiving", 8 * MB, 3, [])
    address = f"/drive/upload/direct/{body['id']}/"
    signed = client.post(f"{address}parts/", {"number": [1, 2, 3]}).json()["parts"]
    for part in signed:
        start = (part["number"] - 1) * body["part_size"]
        data = large_picture[start : start + part["size"]]
        put_to(part["url"], data)
    assert client.get(address).json()["received"] == [1, 2, 3]

    # Nobody else's, and nothing that tus could go on with.
    stranger = client_of(other_user)
    assert stranger.get(address).status_code == 404
    for action in ("parts/", "finish/", "discard/"):
        assert stranger.post(f"{address}{action}", {"number": 1}).status_code == 404
    tus = client.head(f"/v1/uploads/{body['id']}", headers={"Tus-Resumable": "1.0.0"})
    assert tus.status_code == 404
    assert Client().get(address).status_code == 302

    assert client.post(f"{address}finish/").json()["stage"] == "checking"
    assert client.post(f"{address}parts/", {"number": 1}).status_code == 409
    tasks.check_upload(body["id"])
    ended = client.get(address).json()
    assert (ended["stage"], ended["file"]) == ("finished", str(File.objects.get().pk))
    assert client.post(f"{address}discard/").status_code == 204
    assert client.get(address).status_code == 404
    assert File.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": "-1"},
        {"length": "²"},
        {"length": "9" * 19},
        {"length": "0"},
        {"on_conflict": "burn"},
        {"key": ""},
        {"key": "k" * 256},
        {"path": "../../sea.png"},
    ],
)
def test_requests_that_cannot_be(user: User, client_of: Callable[..., Client], wrong: dict[str, str]) -> None:
    told = {"name": "sea.png", "length": 20 * MB, "key": "k", **wrong}
    answer = client_of(user).post("/drive/upload/direct/", told)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert not Upload.objects.exists()


def test_the_page_says_where_large_files_go(
    user: User, client_of: Callable[..., Client], settings: Any
) -> None:
    client = client_of(user)
    assert 'data-direct="/drive/upload/direct/"' in client.get("/drive/").content.decode()
    settings.S3_DIRECT = False
    assert "data-direct" not in client.get("/drive/").content.decode()
