"""What an upload costs the database, and small files that come whole in one request."""

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from drive.files import quota
from drive.files.paths import clean_path
from drive.files.services import create_folder
from drive.models import File, Folder, OnConflict, Upload
from drive.uploads import part_files, single_request
from ipau.common.errors import Invalid
from tests.drive.api.test_uploads import Sender
from tests.drive.uploads.test_resumable import Broken
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db(transaction=True)
# No other test draws these, whose bytes would lie in the storage already.
SEEDS = count(7_000_000)


def picture() -> bytes:
    """Return bytes that nobody has sent yet."""
    return picture_bytes(seed=next(SEEDS))


@contextmanager
def costs(queries: int) -> Iterator[None]:
    """So many statements, with BEGIN and COMMIT, and no savepoint among them."""
    with CaptureQueriesContext(connection) as counted:
        yield
    told = [query["sql"][:100] for query in counted.captured_queries]
    assert len(told) == queries, "\n".join(told)
    assert not any("SAVEPOINT" in sql for sql in told)


@pytest.fixture
def folder(user: User) -> Folder:
    return create_folder(owner=user, parent=None, name="Holiday")


@pytest.fixture
def sender(user: User, api: Callable[..., APIClient]) -> Sender:
    made = Sender(api(user))
    # The first request of a key also notes when the key was used, the first upload makes the row of sizes.
    assert made.at_once(picture(), filename="first.jpg").status_code == 201
    return made


def test_by_the_form(user: User, folder: Folder, sender: Sender, client_of: Callable[[User], Client]) -> None:
    client = client_of(user)
    sent = {"folder": str(folder.pk), "file": SimpleUploadedFile("a.jpg", picture())}
    # Session, person, folder, room; BEGIN, bytes, folder, room, file, COMMIT; the tile.
    with costs(11):
        answer = client.post("/drive/upload/", sent, headers={"Accept": "application/json"})
    assert answer.status_code == 201


def test_by_the_api(sender: Sender) -> None:
    sent = {"content": SimpleUploadedFile("a.jpg", picture())}
    # Key, room; BEGIN, bytes, room, file, COMMIT.
    with costs(7):
        answer = sender.client.post("/v1/files", sent, format="multipart")
    assert answer.status_code == 201


@pytest.mark.parametrize("name", ["a.jpg", "day 1/a.jpg", "day 1/evening/late/a.jpg"])
def test_by_one_request_of_the_tray(sender: Sender, folder: Folder, name: str) -> None:
    told = {"folder": str(folder.pk), "relativePath": name}
    assert sender.at_once(picture(), **told).status_code == 201
    # Key, folder, earlier request, room; BEGIN, bytes, folder, room, file, upload, COMMIT; the folders below
    # are one more, however deep.
    name = name.replace("a.jpg", "b.jpg")
    with costs(11 + ("/" in name)):
        answer = sender.at_once(picture(), {"Idempotency-Key": name}, **{**told, "relativePath": name})
    assert answer.status_code == 201
    assert File.objects.filter(name="b.jpg").count() == 1


def test_in_two_requests(sender: Sender, folder: Folder) -> None:
    data = picture()
    # Key, folder, BEGIN, room, what other uploads were promised, upload, COMMIT.
    with costs(7):
        where = sender.begin(len(data), filename="a.jpg", folder=str(folder.pk))["Location"]
    # Key, upload; BEGIN, upload, COMMIT; other uploads, room; room; BEGIN, bytes, folder, room, file, upload,
    # COMMIT.
    with costs(15):
        assert sender.append(where, 0, data).status_code == 204


@pytest.mark.slow("fills a drive")
def test_it_does_not_grow_with_the_drive(sender: Sender, user: User, folder: Folder) -> None:
    rows = [
        File(owner=user, folder=folder, name=f"{n}.jpg", blob=File.objects.get().blob, size=10)
        for n in range(2000)
    ]
    File.objects.bulk_create(rows)
    with costs(10):
        answer = sender.at_once(picture(), filename="new.jpg", folder=str(folder.pk))
    assert answer.status_code == 201
    assert quota.verify_usage() == 0


# --- Whole in one request.


def test_nothing_of_it_lies_about(sender: Sender, user: User) -> None:
    answer = sender.at_once(picture(), filename="a.jpg")
    upload = Upload.objects.get(name="a.jpg")
    assert not part_files.part_path(upload.pk).exists()
    assert upload.file is not None
    assert answer["Content-Location"].endswith(f"/v1/files/{upload.file.pk}")
    assert sender.ask(answer["Location"])["Upload-Offset"] == str(upload.length)
    assert sender.append(answer["Location"], upload.length, b"x").status_code == 409


def test_a_repeated_request_makes_no_second_file(sender: Sender, user: User) -> None:
    data, key = picture(), {"Idempotency-Key": "once"}
    first, second = (sender.at_once(data, key, filename="a.jpg") for _ in range(2))
    assert first["Location"] == second["Location"]
    assert first["Content-Location"] == second["Content-Location"]
    assert File.objects.filter(name__startswith="a").count() == 1
    assert sender.at_once(data, key, filename="b.jpg").status_code == 409


def test_the_same_request_many_times_at_once_makes_one_file(sender: Sender, user: User) -> None:
    data, key = picture(), {"Idempotency-Key": "once"}
    together = threading.Barrier(6)

    def send(_: int) -> Any:
        try:
            together.wait(10)
            return sender.at_once(data, key, filename="a.jpg")
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(6)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer["Content-Location"] for answer in answers}) == 1
    assert File.objects.filter(name__startswith="a").count() == 1
    assert quota.verify_usage() == 0


@pytest.mark.parametrize("source", [io.BytesIO, Broken])
def test_what_breaks_off_leaves_nothing(user: User, source: type[io.BytesIO]) -> None:
    data = picture()
    with pytest.raises(Invalid, match="fewer bytes than Upload-Length announced"):
        single_request.take_whole(
            owner=user, folder=None, place=clean_path("a/b/sea.jpg"), length=len(data),
            on_conflict=OnConflict.KEEP_BOTH, key=None, source=source(data[:-1]),
        )  # fmt: skip
    assert not File.objects.exists()
    assert not Upload.objects.exists()
    assert not Folder.objects.exists()


def test_a_checksum_that_does_not_fit(sender: Sender) -> None:
    before = File.objects.count()
    answer = sender.at_once(picture(), {"Upload-Checksum": "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA="})
    assert answer.status_code == 460
    assert File.objects.count() == before


@pytest.mark.parametrize("at_once", [True, False])
def test_a_refused_tree_leaves_no_empty_folders(sender: Sender, at_once: bool) -> None:
    data = b"<html>no picture</html>"
    if at_once:
        answer = sender.at_once(data, relativePath="Holiday/Day 1/page.jpg")
    else:
        where = sender.begin(len(data), relativePath="Holiday/Day 1/page.jpg")["Location"]
        answer = sender.append(where, 0, data)
    assert answer.status_code == 422
    assert not Folder.objects.exists()
    assert not Upload.objects.filter(completed_at__isnull=True).exists()
