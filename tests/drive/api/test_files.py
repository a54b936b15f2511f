"""Files and folders over the API."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import create_api_key
from drive.files import services, trash
from drive.models import CreationKey, File, FileState
from tests.drive.factories import upload
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db


def send(client: APIClient, name: str = "sea.jpg", *, data: bytes = b"", key: str = "", **fields: Any) -> Any:
    content = SimpleUploadedFile(name, data or picture_bytes(), content_type="application/octet-stream")
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/files", {"content": content, **fields}, format="multipart", headers=headers)


def test_a_file_from_upload_to_trash(user: User, api: Callable[..., APIClient]) -> None:
    client, data = api(user), picture_bytes(width=300, height=200)
    answer = send(client, data=data, metadata='{"album": "sea", "n": 1}')
    assert answer.status_code == 201
    sent = answer.json()
    assert sent["name"] == "sea.jpg"
    assert sent["metadata"] == {"album": "sea", "n": 1}
    assert (sent["size"], sent["width"], sent["height"], sent["folder"]) == (len(data), 300, 200, None)
    assert (sent["kind"], sent["facts"], sent["starred"], sent["trashed_at"]) == ("picture", {}, False, None)
    assert sent["etag"] == sent["checksums"]["sha256"]
    assert client.get(sent["urls"]["get"]).json() == sent
    content = client.get(sent["urls"]["content"])
    assert b"".join(content.streaming_content) == data
    assert content["Content-Type"] == "image/jpeg"

    assert client.delete(sent["urls"]["get"]).status_code == 204
    assert File.objects.get(pk=sent["id"]).trashed_at is not None
    for url in sent["urls"].values():
        assert client.get(url).status_code == 404
    assert client.delete(sent["urls"]["get"]).status_code == 404


@pytest.mark.parametrize(
    ("format", "content_type", "name"),
    [
        ("PNG", "image/png", "file.png"),
        ("WEBP", "image/webp", "file.webp"),
        ("TIFF", "image/tiff", "file.tif"),
    ],
)
def test_what_it_is_is_read_from_its_bytes(
    format: str, content_type: str, name: str, user: User, api: Callable[..., APIClient]
) -> None:
    sent = send(api(user), "file", data=picture_bytes(format)).json()
    assert (sent["content_type"], sent["name"]) == (content_type, name)


def test_into_a_folder_and_listed_by_it(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    folder = client.post("/v1/folders", {"name": "Holiday"}, format="json").json()
    inner = client.post("/v1/folders", {"name": "Day 1", "parent": folder["id"]}, format="json").json()
    assert (folder["parent"], inner["parent"]) == (None, folder["id"])
    assert client.get(f"/v1/folders/{inner['id']}").json() == inner
    inside = send(client, "a.jpg", folder=folder["id"]).json()
    outside = send(client, "a.jpg").json()

    def ids(path: str) -> list[str]:
        return [row["id"] for row in client.get(path).json()["results"]]

    assert ids("/v1/files") == [outside["id"], inside["id"]]
    assert ids(f"/v1/files?folder={folder['id']}") == [inside["id"]]
    assert ids("/v1/files?folder=top") == [outside["id"]]
    assert ids("/v1/folders?parent=top") == [folder["id"]]
    assert ids(f"/v1/folders?parent={folder['id']}") == [inner["id"]]
    again = client.post("/v1/folders", {"name": "Holiday"}, format="json")
    assert (again.status_code, again["Content-Type"]) == (409, "application/problem+json")
    assert client.post("/v1/folders", {"name": "a/b"}, format="json").status_code == 422


def test_pages_lead_through_all_and_back(
    user: User, api: Callable[..., APIClient], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(5)]
    client = api(user)
    client.get("/v1/account")
    with django_assert_num_queries(2):  # the key, the page
        page = client.get("/v1/files?limit=2").json()
    assert page["previous"] is None
    assert page["next"].startswith("http://testserver/v1/files?limit=2&cursor=")
    seen = [row["id"] for row in page["results"]]
    while page["next"]:
        with django_assert_num_queries(2):
            page = client.get(page["next"]).json()
        seen += [row["id"] for row in page["results"]]
    assert seen == [str(file.pk) for file in reversed(files)]
    back = client.get(page["previous"]).json()
    assert [row["id"] for row in back["results"]] == seen[2:4]


def test_a_repeated_upload_makes_nothing_new(
    user: User, other_user: User, api: Callable[..., APIClient]
) -> None:
    client = api(user)
    first = send(client, key="one")
    assert send(client, key="one").json() == first.json()
    assert File.objects.filter(owner=user).count() == 1
    # Another picture, name or folder under this key is no repeat; another person's key is their own.
    assert send(client, key="one", data=picture_bytes(seed=2)).status_code == 409
    assert send(client, "other.jpg", key="one").status_code == 409
    folder = {"name": "New"}
    as_folder = client.post("/v1/folders", folder, format="json", headers={"Idempotency-Key": "one"})
    assert as_folder.status_code == 409
    assert send(api(other_user), key="one").status_code == 201
    assert send(client, key="x" * 256).status_code == 422
    made = [client.post("/v1/folders", folder, format="json", headers={"Idempotency-Key": "f"}) for _ in "12"]
    assert [m.status_code for m in made] == [201, 201]
    assert made[0].json() == made[1].json()


def test_a_failed_upload_does_not_use_up_its_key(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    assert send(client, key="one", data=b"no picture").status_code == 422
    assert send(client, key="one").status_code == 201


@pytest.mark.django_db(transaction=True)
def test_one_key_sent_many_times_at_once_makes_one_file(user: User) -> None:
    key = create_api_key(user=user, name="test").secret
    answers: list[Any] = []

    def go() -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        try:
            answers.append(send(client, key="race"))
        finally:
            connection.close()

    threads = [threading.Thread(target=go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert File.objects.filter(owner=user).count() == 1
    assert CreationKey.objects.count() == 1


def test_a_refused_file_says_why(user: User, api: Callable[..., APIClient]) -> None:
    file = upload(user)
    File.objects.filter(pk=file.pk).update(state=FileState.REFUSED, reason="It is damaged.")
    client = api(user)
    told = client.get(f"/v1/files/{file.pk}").json()
    assert (told["state"], told["reason"]) == ("refused", "It is damaged.")
    run = {"input": {"image": str(file.pk)}}
    answer = client.post("/v1/models/ipau/ascii/predictions", run, format="json")
    assert (answer.status_code, answer.json()["detail"]) == (422, "It is damaged.")


def test_a_part_of_the_bytes(user: User, api: Callable[..., APIClient]) -> None:
    data = picture_bytes()
    file = upload(user, data=data)
    answer = api(user).get(f"/v1/files/{file.pk}/content", headers={"Range": "bytes=2-9"})
    assert (answer.status_code, b"".join(answer.streaming_content)) == (206, data[2:10])


def test_folders_of_the_trash_are_gone(user: User, api: Callable[..., APIClient]) -> None:
    folder = services.create_folder(owner=user, parent=None, name="Old")
    trash.trash(owner=user, chosen=services.select(owner=user, folder_ids=[folder.pk]))
    client = api(user)
    assert client.get(f"/v1/folders/{folder.pk}").status_code == 404
    assert client.get("/v1/folders").json()["results"] == []
