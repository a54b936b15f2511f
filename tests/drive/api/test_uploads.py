"""The tus protocol, request by request."""

import base64
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from drive.files.services import create_folder, select
from drive.files.trash import trash
from drive.models import File, FileState, Folder, Upload
from drive.uploads import part_files
from tests.drive.factories import upload
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db
UPLOADS = "/v1/uploads"
BODY = "application/offset+octet-stream"
TUS = {"Tus-Resumable": "1.0.0"}
PICTURE = picture_bytes()


def metadata(**told: str) -> str:
    return ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in told.items())


class Sender:
    """Speaks tus through a test client."""

    def __init__(self, client: APIClient):
        self.client = client

    def begin(self, length: object = len(PICTURE), headers: Any = None, **told: str) -> Any:
        sent = {**TUS, "Upload-Length": str(length), **(headers or {})}
        told = told or {"filename": "sea.jpg"}
        return self.client.generic("POST", UPLOADS, headers={**sent, "Upload-Metadata": metadata(**told)})

    def at_once(self, data: bytes = PICTURE, headers: Any = None, **told: str) -> Any:
        sent = {**TUS, "Upload-Length": str(len(data)), **(headers or {})}
        sent["Upload-Metadata"] = metadata(**(told or {"filename": "sea.jpg"}))
        return self.client.generic("POST", UPLOADS, data, content_type=BODY, headers=sent)

    def append(self, where: str, offset: object, data: bytes, headers: Any = None) -> Any:
        sent = {**TUS, "Upload-Offset": str(offset), **(headers or {})}
        return self.client.generic("PATCH", where, data, content_type=BODY, headers=sent)

    def ask(self, where: str) -> Any:
        return self.client.head(where, headers=TUS)

    def drop(self, where: str) -> Any:
        return self.client.delete(where, headers=TUS)


@pytest.fixture
def sender(user: User, api: Callable[..., APIClient]) -> Sender:
    return Sender(api(user))


def test_in_three_parts(sender: Sender, user: User) -> None:
    begun = sender.begin(filename="mer à boire.jpg", filetype="image/jpeg")
    assert begun.status_code == 201
    where = begun["Location"]
    assert where.startswith("http://testserver/v1/uploads/")
    assert (begun["Tus-Resumable"], begun["Upload-Offset"]) == ("1.0.0", "0")
    assert "Content-Location" not in begun

    for start, end in [(0, 1000), (1000, 1001), (1001, len(PICTURE))]:
        answer = sender.append(where, start, PICTURE[start:end])
        assert (answer.status_code, answer["Upload-Offset"]) == (204, str(end))
        asked = sender.ask(where)
        assert asked.status_code == 200
        assert (asked["Upload-Offset"], asked["Upload-Length"]) == (str(end), str(len(PICTURE)))
        assert asked["Cache-Control"] == "no-store"
        assert asked["Upload-Expires"].endswith("GMT")

    file = File.objects.get(owner=user)
    assert answer["Content-Location"] == f"http://testserver/v1/files/{file.pk}"
    assert sender.ask(where)["Content-Location"] == answer["Content-Location"]
    assert (file.name, file.size, file.state) == ("mer à boire.jpg", len(PICTURE), FileState.UPLOADED)
    assert file.blob_id == hashlib.sha256(PICTURE).hexdigest()
    assert not part_files.part_path(Upload.objects.get().pk).exists()
    # Nothing more is taken, and giving up what is finished leaves the file.
    assert sender.append(where, len(PICTURE), b"x").status_code == 409
    assert sender.drop(where).status_code == 204
    assert sender.ask(where).status_code == 404
    assert File.objects.filter(owner=user).exists()


def test_small_files_come_in_one_request(sender: Sender, user: User) -> None:
    answer = sender.at_once()
    file = File.objects.get(owner=user)
    assert answer.status_code == 201
    assert answer["Upload-Offset"] == str(len(PICTURE))
    assert answer["Content-Location"].endswith(str(file.pk))


def test_the_server_tells_everybody_what_it_can() -> None:
    for path in (UPLOADS, f"{UPLOADS}/01890000-0000-7000-8000-000000000000"):
        answer = APIClient().options(path)
        assert answer.status_code == 204
        assert answer["Tus-Version"] == "1.0.0"
        assert "termination" in answer["Tus-Extension"]
        assert int(answer["Tus-Max-Size"]) > 0
        assert "sha1" in answer["Tus-Checksum-Algorithm"]


def test_another_version_is_refused(sender: Sender) -> None:
    where = sender.begin()["Location"]
    for method, path in [("POST", UPLOADS), ("HEAD", where), ("PATCH", where), ("DELETE", where)]:
        for headers in ({}, {"Tus-Resumable": "0.2.2"}):
            answer = sender.client.generic(method, path, headers=headers)
            assert (answer.status_code, answer["Tus-Version"]) == (412, "1.0.0")


def test_what_is_too_large_is_refused_before_it_is_sent(sender: Sender, settings: Settings) -> None:
    settings.RESUMABLE_MAX_BYTES = 5000
    answer = sender.begin(length=5001)
    assert answer.status_code == 413
    assert "The limit is" in answer.json()["detail"]
    assert not Upload.objects.exists()
    assert sender.begin(length=5000).status_code == 201


def test_what_has_no_room_in_the_drive_is_refused_before_it_is_sent(
    sender: Sender, settings: Settings
) -> None:
    settings.DRIVE_QUOTA_BYTES = 2 * len(PICTURE)
    assert sender.begin(length=3 * len(PICTURE)).status_code == 413
    first, second = (sender.begin()["Location"] for _ in range(2))
    # All room is promised, although no byte has come.
    refused = sender.begin()
    assert (refused.status_code, refused.json()["type"]) == (413, "about:blank#quota_exceeded")
    assert "Other unfinished uploads" in refused.json()["detail"]
    assert sender.append(first, 0, PICTURE[:-1]).status_code == 204
    assert sender.begin().status_code == 413
    assert sender.drop(first).status_code == 204
    third = sender.begin()["Location"]
    assert sender.append(third, 0, PICTURE).status_code == 204
    assert sender.append(second, 0, PICTURE).status_code == 204
    assert sender.begin(length=1).status_code == 413


@pytest.mark.parametrize("length", ["", "-1", "1.5", "many", "９", "1" * 30])
def test_a_length_is_a_number(sender: Sender, length: str) -> None:
    assert sender.begin(length=length).status_code == 400


def test_a_length_must_be_known(sender: Sender) -> None:
    assert sender.begin(headers={"Upload-Defer-Length": "1"}).status_code == 400
    empty = sender.begin(length=0)
    assert (empty.status_code, empty.json()["detail"]) == (422, "This file is empty.")


def test_lies_about_offset_and_length(sender: Sender, user: User) -> None:
    where = sender.begin()["Location"]
    for offset in ("", "-1", "x"):
        assert sender.append(where, offset, PICTURE).status_code == 400
    for offset in (1, len(PICTURE), len(PICTURE) + 1, 10**17):
        answer = sender.append(where, offset, PICTURE)
        assert (answer.status_code, answer.json()["detail"]) == (
            409,
            "This upload continues at byte 0. Send the bytes from there.",
        )
    assert sender.append(where, 0, PICTURE + b"x").status_code == 413
    assert sender.append(where, 0, PICTURE[:10]).status_code == 204
    assert sender.append(where, 0, PICTURE[:10]).status_code == 409
    assert sender.append(where, 10, PICTURE).status_code == 413
    sent = {**TUS, "Upload-Offset": "10"}
    wrong = sender.client.generic("PATCH", where, b"x", content_type="text/plain", headers=sent)
    assert wrong.status_code == 415
    assert sender.ask(where)["Upload-Offset"] == "10"
    assert part_files.part_path(Upload.objects.get().pk).stat().st_size == 10
    assert sender.append(where, 10, PICTURE[10:]).status_code == 204
    assert File.objects.get(owner=user).blob_id == hashlib.sha256(PICTURE).hexdigest()


@pytest.mark.parametrize(
    "data", [b"<!doctype html><script>alert(1)</script>", b"<svg onload='x'/>", b"\0" * 5000], ids=len
)
def test_what_is_no_picture_is_refused_with_a_sentence(sender: Sender, user: User, data: bytes) -> None:
    where = sender.begin(length=len(data), filename="cat.jpg")["Location"]
    key = Upload.objects.get().pk
    answer = sender.append(where, 0, data)
    assert answer.status_code == 422
    assert "file type isn’t supported" in answer.json()["detail"]
    assert answer["Content-Type"] == "application/problem+json"
    assert not part_files.part_path(key).exists()
    assert sender.ask(where).status_code == 404
    assert sender.at_once(data).status_code == 422
    assert not Upload.objects.exists()
    assert not File.objects.filter(owner=user).exists()


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_checksums(sender: Sender, algorithm: str) -> None:
    def checksum(data: bytes) -> dict[str, str]:
        found = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
        return {"Upload-Checksum": f"{algorithm} {found}"}

    where = sender.begin()["Location"]
    assert sender.append(where, 0, PICTURE[:99], checksum(PICTURE[:99])).status_code == 204
    wrong = sender.append(where, 99, PICTURE[99:], checksum(b"other"))
    assert (wrong.status_code, wrong.json()["title"]) == (460, "Checksum mismatch")
    assert sender.ask(where)["Upload-Offset"] == "99"
    assert sender.append(where, 99, PICTURE[99:], {"Upload-Checksum": "md5 eA=="}).status_code == 400
    assert sender.append(where, 99, PICTURE[99:], {"Upload-Checksum": "sha1 é"}).status_code == 400
    done = sender.append(where, 99, PICTURE[99:], checksum(PICTURE[99:]))
    assert "Content-Location" in done


def test_giving_up(sender: Sender) -> None:
    where = sender.begin()["Location"]
    sender.append(where, 0, PICTURE[:100])
    path = part_files.part_path(Upload.objects.get().pk)
    assert path.exists()
    assert sender.drop(where).status_code == 204
    assert not path.exists()
    for again in (sender.drop(where), sender.ask(where), sender.append(where, 100, PICTURE[100:])):
        assert again.status_code == 404


def test_what_has_expired_is_gone(sender: Sender) -> None:
    where = sender.begin()["Location"]
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert sender.ask(where).status_code == 404
    assert sender.append(where, 0, PICTURE).status_code == 404


def test_anothers_upload_does_not_exist(
    sender: Sender, other_user: User, api: Callable[..., APIClient]
) -> None:
    where = sender.begin()["Location"]
    stranger = Sender(api(other_user))
    for answer in (stranger.ask(where), stranger.append(where, 0, PICTURE), stranger.drop(where)):
        assert answer.status_code == 404
    theirs = create_folder(owner=other_user, parent=None, name="Theirs")
    assert sender.begin(filename="a.jpg", folder=str(theirs.pk)).status_code == 404
    assert sender.begin(filename="a.jpg", folder="../x").status_code == 404


def test_it_needs_the_right_to_write(user: User, api: Callable[..., APIClient]) -> None:
    reader = Sender(api(user, ["read"]))
    assert reader.begin().status_code == 403
    where = Sender(api(user)).begin()["Location"]
    assert reader.ask(where).status_code == 200
    assert reader.append(where, 0, PICTURE).status_code == 403
    assert reader.drop(where).status_code == 403


def test_a_browser_needs_its_token(user: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    length = str(len(PICTURE))
    sent = {**TUS, "Upload-Length": length, "Upload-Metadata": metadata(filename="a.jpg")}
    assert browser.generic("POST", UPLOADS, PICTURE, BODY, headers=sent).status_code == 403
    browser.get("/drive/")
    token = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    answer = browser.generic("POST", UPLOADS, PICTURE, BODY, headers={**sent, **token})
    assert (answer.status_code, answer["Upload-Offset"]) == (201, length)
    where = browser.generic("POST", UPLOADS, headers={**sent, **token})["Location"]
    on = {**TUS, "Upload-Offset": "0"}
    assert browser.generic("PATCH", where, PICTURE, BODY, headers=on).status_code == 403
    assert browser.generic("PATCH", where, PICTURE, BODY, headers={**on, **token}).status_code == 204


def test_a_dropped_tree_arrives_as_one(sender: Sender, user: User) -> None:
    home = create_folder(owner=user, parent=None, name="Home")
    for path in ("holiday/day 1/a.jpg", "holiday/day 1/b.jpg", "holiday/day 2/a.jpg", "holiday/c.jpg"):
        answer = sender.at_once(filename="x.jpg", relativePath=path, folder=str(home.pk))
        assert "Content-Location" in answer
    holiday = Folder.objects.get(owner=user, parent=home)
    assert sorted(f.name for f in Folder.objects.filter(parent=holiday)) == ["day 1", "day 2"]
    assert File.objects.filter(folder__parent=holiday).count() == 3
    assert File.objects.get(folder=holiday).name == "c.jpg"
    assert sender.at_once(filename="d.jpg", relativePath="null")["Upload-Offset"]
    assert File.objects.get(folder=None).name == "d.jpg"


@pytest.mark.parametrize(
    "path",
    ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "..\\a.jpg", "C:\\a.jpg", "a/.. /b.jpg", "d/" * 41 + "a"],
)
def test_paths_that_lead_elsewhere(sender: Sender, path: str) -> None:
    answer = sender.begin(filename="a.jpg", relativePath=path)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert not Upload.objects.exists()


@pytest.mark.parametrize(
    ("path", "folders", "name"),
    [
        ("a//./b/c.jpg", ["a", "b"], "c.jpg"),
        ("ev\u202eil\0/c\u202e.jpg", ["evil"], "c.jpg"),
        ("e\u0301te\u0301/c.jpg", ["\u00e9t\u00e9"], "c.jpg"),
        ('<script>/"><img src=x>.jpg', ["<script>"], '"><img src=x>.jpg'),
        ("ก" * 300 + "/c.jpg", ["ก" * 85], "c.jpg"),
        ("...hidden/.jpg", ["...hidden"], ".jpg.jpg"),
    ],
)
def test_odd_names_are_mended(sender: Sender, path: str, folders: list[str], name: str) -> None:
    assert "Content-Location" in sender.at_once(filename="x", relativePath=path)
    file = File.objects.get()
    assert file.name == name
    way = []
    folder = file.folder
    while folder:
        way.insert(0, folder.name)
        folder = folder.parent
    assert way == folders


@pytest.mark.parametrize("name", ["", ".", "..", "../..", "/", "a/b/sea", "\0"])
def test_a_name_alone_leads_nowhere(sender: Sender, name: str) -> None:
    assert "Content-Location" in sender.at_once(filename=name, folder="")
    file = File.objects.get()
    assert file.folder is None
    assert file.name in ("file.jpg", "sea.jpg")


def test_metadata_that_cannot_be_read(sender: Sender) -> None:
    for header in ("filename !!!", "filename /w==", "filename a"):
        sent = {**TUS, "Upload-Length": "10", "Upload-Metadata": header}
        assert sender.client.generic("POST", UPLOADS, headers=sent).status_code == 400
    assert sender.begin(filename="a.jpg", onConflict="burn").status_code == 422


def test_keep_both(sender: Sender, user: User) -> None:
    upload(user, "sea.jpg")
    sender.at_once(picture_bytes(seed=2), filename="sea.jpg")
    assert sorted(File.objects.values_list("name", flat=True)) == ["sea (2).jpg", "sea.jpg"]


def test_replace_keeps_the_file(sender: Sender, user: User) -> None:
    old = upload(user, "sea.jpg")
    File.objects.update(state=FileState.READY, starred=True, attempts=2)
    data = picture_bytes("PNG", 100, 50, seed=2)
    answer = sender.at_once(data, filename="sea.jpg", onConflict="replace")
    new = File.objects.get()
    assert new.pk == old.pk
    assert answer["Content-Location"].endswith(str(old.pk))
    assert new.blob_id == hashlib.sha256(data).hexdigest() != old.blob_id
    assert (new.width, new.height, new.size) == (100, 50, len(data))
    assert (new.content_type, new.state, new.attempts) == ("image/png", FileState.UPLOADED, 0)
    assert new.starred
    # What is in the trash is not there.
    trash(owner=user, chosen=select(owner=user, file_ids=[old.pk]))
    sender.at_once(filename="sea.jpg", onConflict="replace")
    assert File.objects.live().get().pk != old.pk


def test_skip_sends_nothing(sender: Sender, user: User) -> None:
    old = upload(user, "sea.jpg", data=picture_bytes(seed=2))
    answer = sender.begin(filename="sea.jpg", onConflict="skip")
    assert answer.status_code == 201
    assert answer["Upload-Offset"] == str(len(PICTURE))
    assert answer["Content-Location"].endswith(str(old.pk))
    # A name that was free when it began, and is not when it ends.
    where = sender.begin(filename="hill.jpg", onConflict="skip")["Location"]
    hill = upload(user, "hill.jpg", data=picture_bytes(seed=3))
    done = sender.append(where, 0, PICTURE)
    assert (done.status_code, done["Content-Location"][-36:]) == (204, str(hill.pk))
    assert File.objects.count() == 2


def test_the_same_key_begins_one_upload(sender: Sender, user: User) -> None:
    key = {"Idempotency-Key": "sea-1"}
    first, second = sender.at_once(headers=key), sender.at_once(headers=key)
    assert first["Location"] == second["Location"]
    assert second["Content-Location"] == first["Content-Location"]
    assert File.objects.filter(owner=user).count() == 1
    assert sender.begin(length=5, headers=key).status_code == 409
    assert sender.begin(headers={"Idempotency-Key": "x" * 256}).status_code == 422


def test_a_folder_that_was_trashed_meanwhile(sender: Sender, user: User) -> None:
    home = create_folder(owner=user, parent=None, name="Home")
    where = sender.begin(filename="a.jpg", folder=str(home.pk))["Location"]
    trash(owner=user, chosen=select(owner=user, folder_ids=[home.pk]))
    answer = sender.append(where, 0, PICTURE)
    assert answer.status_code == 404
    assert "folder" in answer.json()["detail"]
    assert not File.objects.exists()
