"""Quota: refused politely before bytes are stored, exact when uploads race, never a loss for jobs."""

import hashlib
import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts.forms import SizeField
from accounts.models import User
from drive.files import quota, services, trash
from drive.models import Blob, File
from drive.uploads import services as uploads_services
from ipau.common.errors import DomainError, TooLarge
from tests.drive.factories import upload
from tests.pictures import picture_bytes


def give(user: User, quota_bytes: int | None) -> None:
    user.quota_bytes = quota_bytes
    user.save(update_fields=["quota_bytes"])


@pytest.mark.django_db
def test_the_trash_counts_and_the_site_has_a_default(user: User, settings: Any) -> None:
    kept, gone = upload(user, "a.jpg"), upload(user, "b.jpg", seed=1)
    trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[gone.pk]))
    assert quota.used_bytes(user) == kept.size + gone.size
    assert quota.quota_of(user) == settings.DRIVE_QUOTA_BYTES
    give(user, 5)
    assert quota.quota_of(user) == 5


@pytest.mark.django_db
def test_what_does_not_fit_is_refused_before_it_is_stored(user: User) -> None:
    give(user, upload(user).size + 100)
    stored = Blob.objects.count()
    # No other test keeps this one.
    data = picture_bytes(seed=90_417)
    with pytest.raises(TooLarge, match=r"^Your drive has 100\xa0bytes left, but this file has \d"):
        upload(user, "more.jpg", data=data)
    assert Blob.objects.count() == stored
    assert not default_storage.exists(Blob(sha256=hashlib.sha256(data).hexdigest()).path)


@pytest.mark.django_db
def test_it_may_be_filled_to_the_last_byte(user: User) -> None:
    data = picture_bytes()
    give(user, len(data))
    assert upload(user, data=data).size == len(data)
    assert quota.usage_of(user).left == 0 or quota.used_bytes(user) == len(data)


@pytest.mark.django_db(transaction=True)
def test_uploads_at_once_cannot_exceed_it_together(user: User) -> None:
    pictures = [picture_bytes(seed=seed) for seed in range(6)]
    give(user, sum(map(len, pictures)) // 2)
    together = threading.Barrier(len(pictures))
    refused: list[DomainError] = []

    def send(data: bytes) -> None:
        try:
            together.wait(10)
            uploads_services.upload_file(
                owner=user, folder=None, name="x.jpg", content=io.BytesIO(data), size=len(data)
            )
        except DomainError as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(data,)) for data in pictures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert quota.used_bytes(user) <= quota.quota_of(user)
    assert refused
    assert all(isinstance(error, TooLarge) for error in refused)
    assert File.objects.filter(owner=user).count() == len(pictures) - len(refused)


@pytest.mark.django_db
def test_pages_and_api_say_it_before_reading(
    user: User, client_of: Callable[[User], Client], api: Callable[..., APIClient]
) -> None:
    give(user, 1000)
    big = b"x" * (2 * 1024 * 1024)
    page = client_of(user).post(
        "/drive/upload/",
        {"file": SimpleUploadedFile("a.jpg", big)},
        headers={"Accept": "application/json"},
    )
    assert (page.status_code, page.json()["type"]) == (413, "about:blank#quota_exceeded")
    answer = api(user).post("/v1/files", {"content": SimpleUploadedFile("a.jpg", big)}, format="multipart")
    assert answer.status_code == 413
    assert "left" in answer.json()["message"]
    form = client_of(user).post("/drive/upload/", {"file": SimpleUploadedFile("a.jpg", big)}, follow=True)
    assert b"Your drive has" in form.content


@pytest.mark.django_db
def test_the_bar_tells_numbers(user: User, client_of: Callable[[User], Client]) -> None:
    give(user, 10 * 1024**2)
    upload(user)
    client = client_of(user)
    page = client.get("/drive/").content.decode()
    assert "of 10.0\xa0MB used" in page
    assert "of 10.0\xa0MB used" in client.get("/drive/trash/").content.decode()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500 MB", 500 * 1024**2),
        ("20gb", 20 * 1024**3),
        ("1,5 TB", 1024**4 * 3 // 2),
        ("", None),
        ("0 MB", 0),
    ],
)
def test_operators_write_sizes_as_people_do(text: str, size: int | None) -> None:
    field = SizeField(required=False)
    assert field.clean(text) == size
    if size:
        assert field.clean(field.prepare_value(size)) == size


@pytest.mark.parametrize("text", ["-5 GB", "10", "a lot", "1e9 GB", "9" * 30 + " GB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(Exception, match="Enter a size"):
        SizeField(required=False).clean(text)


@pytest.mark.django_db
def test_operators_set_it(client_of: Callable[[User], Client], user: User, other_user: User) -> None:
    user.is_staff = user.is_superuser = True
    user.save()
    client = client_of(user)
    address = f"/admin/accounts/user/{other_user.pk}/change/"
    page = client.get(address)
    form = page.context["adminform"].form
    sent = {
        name: value
        for name in form.fields
        if (value := form[name].value()) is not None and value is not False
    }
    answer = client.post(address, {**sent, "quota_bytes": "2 GB"})
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    other_user.refresh_from_db()
    assert other_user.quota_bytes == 2 * 1024**3
    assert 'value="2 GB"' in client.get(address).content.decode()
