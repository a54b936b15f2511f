"""Bad luck and two hands at once: full storage, full drives, moves that would close a circle, lost bytes."""

import errno
import http.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from drive.files import quota, services
from drive.files.tree import Tree
from drive.models import File, Folder
from drive.storage.filesystem import ContentStorage
from drive.uploads import work
from ipau.common.errors import Conflict, TooLarge
from processing.models import Output
from tests.browser.web import WebServer
from tests.drive.api.test_uploads import Sender
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.pictures import picture_bytes
from tests.processing import factories

FULL = "The server cannot store this just now. Please try again later."


@pytest.fixture
def full_storage(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let the disk below the blobs be full until `undo()`."""

    def full(self: ContentStorage, name: str, content: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ContentStorage, "_save", full)
    return monkeypatch


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["form", "api", "whole", "parts"])
def test_a_full_storage_is_told_and_the_same_upload_works_later(
    way: str,
    user: User,
    client_of: Callable[[User], Client],
    api: Callable[..., APIClient],
    full_storage: pytest.MonkeyPatch,
) -> None:
    data = picture_bytes(seed=6_000_000 + len(way))
    sender = Sender(api(user))
    where = sender.begin(len(data), filename="a.jpg")["Location"]

    def send() -> Any:
        sent = SimpleUploadedFile("a.jpg", data)
        if way == "form":
            accept = {"Accept": "application/json"}
            return client_of(user).post("/drive/upload/", {"file": sent}, headers=accept)
        if way == "api":
            return sender.client.post("/v1/files", {"content": sent}, format="multipart")
        if way == "whole":
            return sender.at_once(data, {"Idempotency-Key": "one"}, filename="a.jpg")
        reached = int(sender.ask(where)["Upload-Offset"])
        return sender.append(where, reached, data[reached:])

    refused = send()
    assert (refused.status_code, refused.json()["detail"]) == (503, FULL)
    assert not File.objects.exists()
    full_storage.undo()
    assert send().status_code in (201, 204)
    assert default_storage.exists(File.objects.get().blob.path)
    assert quota.verify_usage() == 0


@pytest.mark.django_db(transaction=True)
def test_two_tabs_cannot_close_a_circle() -> None:
    owner = UserFactory()
    for _ in range(10):
        Folder.objects.all().delete()
        first, second = (services.create_folder(owner=owner, parent=None, name=name) for name in "ab")
        together = Barrier(2)

        def move(into: tuple[Folder, Folder], together: Barrier = together) -> object:
            try:
                chosen = services.select(owner=owner, folder_ids=[into[0].pk])
                together.wait(10)
                return services.move(owner=owner, chosen=chosen, destination=into[1])
            except Conflict as error:
                return error.code
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(move, [(first, second), (second, first)]))
        assert sorted(map(str, outcomes)) == ["1", "folder_cycle"]
        tree = Tree.of(owner.pk)
        assert tree.descendants([f.pk for f in Folder.objects.filter(parent=None)]) == {first.pk, second.pk}


@pytest.mark.django_db(transaction=True)
def test_results_are_delivered_into_a_full_drive_and_the_next_upload_is_refused() -> None:
    owner = UserFactory()
    pictures = [upload(owner, f"{seed}.jpg", seed=seed) for seed in range(3)]
    work.inspect_uploads(owner.pk)
    owner.quota_bytes = quota.used_bytes(owner)
    owner.save(update_fields=["quota_bytes"])
    job = factories.submit(owner, pictures)
    factories.take_turns(owner)
    job.refresh_from_db()
    assert job.state == "succeeded"
    results = [output.file for output in Output.objects.filter(item__job=job).select_related("file")]
    assert len(results) == 3
    assert quota.used_bytes(owner) == owner.quota_bytes + sum(file.size for file in results if file)
    assert quota.usage_of(owner).left == 0
    with pytest.raises(TooLarge, match="Your drive has 0"):
        upload(owner, "more.jpg", seed=9)
    assert quota.verify_usage() == 0


@pytest.mark.django_db(transaction=True)
def test_a_zip_that_loses_its_bytes_arrives_broken_not_short(
    process_env: dict[str, str], tmp_path: Path, client_of: Callable[[User], Client]
) -> None:
    owner = UserFactory()
    here = services.create_folder(owner=owner, parent=None, name="here")
    files = [upload(owner, f"{seed}.jpg", folder=here, seed=seed) for seed in range(3)]
    cookie = client_of(owner).cookies["sessionid"].value
    server = WebServer(process_env, tmp_path / "web.log")
    server.start()
    try:
        with _download(server.port, here, cookie) as whole:
            length = int(whole.headers["Content-Length"])
            assert len(whole.read()) == length
        default_storage.delete(files[1].blob.path)
        with _download(server.port, here, cookie) as cut:
            assert (cut.status, cut.headers["Content-Length"]) == (200, str(length))
            with pytest.raises(http.client.IncompleteRead) as caught:
                cut.read()
        assert 0 < len(caught.value.partial) < length
    finally:
        server.kill()


@contextmanager
def _download(port: int, folder: Folder, cookie: str) -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as asked:
        headers = {"Cookie": f"sessionid={cookie}"}
        asked.request("GET", f"/drive/download/?folder={folder.pk}", headers=headers)
        with closing(asked.getresponse()) as answer:
            yield answer
