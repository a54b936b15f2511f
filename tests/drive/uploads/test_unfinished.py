"""Uploads that were begun and left, on the start page."""

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from drive.files import services
from drive.files.paths import UploadPath
from drive.models import Upload
from drive.uploads import part_files
from drive.uploads.resumable import append_bytes, begin_resumable
from drive.uploads.services import unfinished_uploads
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db


def begun(owner: User, name: str = "sea.jpg", *, ago: int = 120, **changes: Any) -> Upload:
    """An upload to which nothing has come for so many seconds."""
    upload = begin_resumable(
        owner=owner, folder=changes.pop("folder", None), place=UploadPath((), name), length=1000
    )
    Upload.objects.filter(pk=upload.pk).update(updated_at=timezone.now() - timedelta(seconds=ago), **changes)
    return upload


def html(answer: Any) -> str:
    return str(answer.content.decode())


def test_what_was_left_is_shown_with_a_way_to_go_on(user: User, client_of: Callable[[User], Client]) -> None:
    folder = services.create_folder(owner=user, parent=None, name="Trip")
    begun(user, folder=folder, offset=420)
    page = html(client_of(user).get("/"))
    for words in ("Unfinished uploads", "sea.jpg", "42 % uploaded", f"/drive/folder/{folder.pk}/"):
        assert words in page


def test_only_what_was_left_is_shown(user: User, other_user: User) -> None:
    left = begun(user)
    begun(user, ago=5)
    begun(user, reason="It is no picture.")
    begun(user, expires_at=timezone.now() - timedelta(seconds=1))
    begun(user, completed_at=timezone.now())
    begun(other_user)
    assert list(unfinished_uploads(owner=user)) == [left]


def test_it_is_given_up_with_its_bytes(user: User, client_of: Callable[[User], Client]) -> None:
    upload = begun(user)
    data = picture_bytes()[:100]
    append_bytes(upload=Upload.objects.get(pk=upload.pk), offset=0, source=io.BytesIO(data), size=len(data))
    Upload.objects.filter(pk=upload.pk).update(updated_at=timezone.now() - timedelta(seconds=120))
    assert part_files.part_path(upload.pk).exists()
    answer = client_of(user).post(f"/drive/upload/{upload.pk}/give-up/", follow=True)
    assert "The upload of “sea.jpg” was deleted." in html(answer)
    assert not Upload.objects.exists()
    assert not part_files.part_path(upload.pk).exists()


def test_another_persons_upload_is_not_there(
    user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    upload = begun(other_user)
    assert client_of(user).post(f"/drive/upload/{upload.pk}/give-up/").status_code == 404
    assert Upload.objects.filter(pk=upload.pk).exists()
