"""Zips over the API."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.storage import default_storage
from rest_framework.test import APIClient

from accounts.models import User
from drive.downloads.zip_archives import LostBytesError
from drive.files import trash
from drive.files.services import create_folder, select
from tests.drive.factories import upload
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db


def unpacked(answer: Any) -> dict[str, bytes]:
    """Return what a zip holds, having looked that its length was told."""
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/zip"
    data = b"".join(answer.streaming_content)
    assert int(answer["Content-Length"]) == len(data)
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        return {name: found.read(name) for name in found.namelist()}


def test_a_folder_with_all_that_is_in_it(user: User, api: Callable[..., APIClient]) -> None:
    top = create_folder(owner=user, parent=None, name="Holiday")
    day = create_folder(owner=user, parent=top, name="Day 1")
    create_folder(owner=user, parent=top, name="Empty")
    sea, hill = picture_bytes(seed=1), picture_bytes(seed=2)
    upload(user, "sea.jpg", folder=top, data=sea)
    upload(user, "hill.jpg", folder=day, data=hill)
    gone = upload(user, "gone.jpg", folder=top, seed=3)
    trash.trash(owner=user, chosen=select(owner=user, file_ids=[gone.pk]))
    answer = api(user, ["read"]).get(f"/v1/folders/{top.pk}/archive")
    assert 'filename="Holiday.zip"' in answer["Content-Disposition"]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert unpacked(answer) == {
        "Holiday/": b"",
        "Holiday/sea.jpg": sea,
        "Holiday/Day 1/": b"",
        "Holiday/Day 1/hill.jpg": hill,
        "Holiday/Empty/": b"",
    }


def test_a_selection(user: User, other_user: User, api: Callable[..., APIClient]) -> None:
    home = create_folder(owner=user, parent=None, name="Home")
    upload(user, "inside.jpg", folder=home)
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(3)]
    client = api(user, ["read"])

    def ask(**body: Any) -> Any:
        return client.post("/v1/archives", body, format="json")

    chosen = [str(file.pk) for file in files[:2]]
    assert set(unpacked(ask(files=chosen, folders=[str(home.pk)]))) == {
        "0.jpg",
        "1.jpg",
        "Home/",
        "Home/inside.jpg",
    }
    assert list(unpacked(ask(files=chosen[:1]))) == ["0.jpg"]
    assert ask(files=[*chosen, str(upload(other_user).pk)]).status_code == 404
    assert ask().json()["detail"] == "Nothing is selected."
    assert "files" in ask(files=["x"]).json()["errors"]


def test_lost_bytes_end_the_download_early(user: User, api: Callable[..., APIClient]) -> None:
    home = create_folder(owner=user, parent=None, name="Home")
    file = upload(user, folder=home)
    default_storage.delete(file.blob.path)
    answer: Any = api(user).get(f"/v1/folders/{home.pk}/archive")
    with pytest.raises(LostBytesError):
        b"".join(answer.streaming_content)
