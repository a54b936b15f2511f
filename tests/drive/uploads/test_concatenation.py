"""Files whose parts come side by side, as Uppy and tus-js-client send them with `parallelUploads`."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from drive.files.services import create_folder
from drive.models import File, Upload
from drive.uploads import expiry, part_files
from drive.uploads import services as uploads_services
from drive.uploads.services import unfinished_uploads
from tests.drive.api.test_uploads import BODY, TUS, UPLOADS, Sender, metadata
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db
PICTURE = picture_bytes(width=400, height=300)
CUTS = (0, 1000, 1001, 5000, len(PICTURE))
PIECES = [PICTURE[start:end] for start, end in pairwise(CUTS)]


@pytest.fixture
def sender(user: User, api: Callable[..., APIClient]) -> Sender:
    return Sender(api(user))


def begin_part(sender: Sender, length: int, data: bytes = b"", headers: Any = None) -> Any:
    sent = {**TUS, "Upload-Concat": "partial", "Upload-Length": str(length), **(headers or {})}
    return sender.client.generic("POST", UPLOADS, data, content_type=BODY, headers=sent)


def send_parts(sender: Sender, pieces: list[bytes] | None = None) -> list[str]:
    """Send parts, the last one first; return their addresses in the order of the file."""
    found = []
    for piece in reversed(PIECES if pieces is None else pieces):
        begun = begin_part(sender, len(piece))
        assert begun.status_code == 201, begun.content
        assert sender.append(begun["Location"], 0, piece).status_code == 204
        found.append(begun["Location"])
    return found[::-1]


def join(sender: Sender, addresses: list[str], headers: Any = None, **told: str) -> Any:
    sent = {
        **TUS,
        "Upload-Concat": f"final;{' '.join(addresses)}",
        "Upload-Metadata": metadata(**(told or {"filename": "sea.jpg"})),
        **(headers or {}),
    }
    return sender.client.generic("POST", UPLOADS, headers=sent)


def test_it_is_offered() -> None:
    assert "concatenation" in APIClient().options(UPLOADS)["Tus-Extension"].split(",")


def test_parts_become_one_file_in_the_order_that_is_named(sender: Sender, user: User) -> None:
    folder = create_folder(owner=user, parent=None, name="Holiday")
    addresses = send_parts(sender)
    assert not File.objects.exists()
    for address, piece in zip(addresses, PIECES, strict=True):
        asked = sender.ask(address)
        assert (asked["Upload-Concat"], asked["Upload-Offset"]) == ("partial", str(len(piece)))
    answer = join(sender, addresses, filename="sea.jpg", folder=str(folder.pk), relativePath="Day 1/sea.jpg")
    assert answer.status_code == 201, answer.content
    file = File.objects.get()
    assert (file.name, file.size, file.blob_id) == (
        "sea.jpg",
        len(PICTURE),
        hashlib.sha256(PICTURE).hexdigest(),
    )
    assert (file.folder.name, file.folder.parent) == ("Day 1", folder)
    assert answer["Content-Location"].endswith(str(file.pk))
    asked = sender.ask(answer["Location"])
    assert asked["Upload-Concat"].startswith("final;/v1/uploads/")
    assert asked["Upload-Length"] == asked["Upload-Offset"] == str(len(PICTURE))
    # The parts are gone, on disk too, and the final upload takes no bytes.
    assert [sender.ask(address).status_code for address in addresses] == [404] * len(addresses)
    assert list(Upload.objects.values_list("pk", flat=True)) == [
        Upload.objects.get(file=file).pk,
    ]
    assert not any(part_files.part_path(UUID(address.rsplit("/", 1)[-1])).exists() for address in addresses)
    assert sender.append(answer["Location"], len(PICTURE), b"x").status_code == 403


def test_parts_may_come_with_the_first_request_and_be_named_by_path(sender: Sender) -> None:
    addresses = []
    for piece in PIECES:
        begun = begin_part(sender, len(piece), piece)
        assert begun["Upload-Offset"] == str(len(piece))
        addresses.append(begun["Location"].removeprefix("http://testserver"))
    assert not File.objects.exists()
    assert join(sender, addresses).status_code == 201
    assert File.objects.get().blob_id == hashlib.sha256(PICTURE).hexdigest()


def test_a_repeated_request_finds_what_the_first_one_made(sender: Sender) -> None:
    addresses = send_parts(sender)
    first, again = join(sender, addresses), join(sender, addresses)
    assert (again.status_code, again["Location"]) == (201, first["Location"])
    assert again["Content-Location"] == first["Content-Location"]
    assert File.objects.count() == 1
    keyed = {"Idempotency-Key": "one"}
    other = send_parts(sender, [PICTURE])
    made = join(sender, other, keyed)
    assert join(sender, other, keyed)["Location"] == made["Location"]
    assert join(sender, addresses, keyed).status_code == 409


def test_what_cannot_be_put_together(sender: Sender, other_user: User, api: Callable[..., APIClient]) -> None:
    whole = send_parts(sender, [PICTURE])
    half = begin_part(sender, 10)["Location"]
    sender.append(half, 0, b"12345")
    ordinary = sender.begin()["Location"]
    foreign = send_parts(Sender(api(other_user)), [PICTURE])
    for addresses, status, words in [
        ([*whole, half], 409, "Part 2"),
        ([ordinary], 409, "not a partial upload"),
        ([*whole, *foreign], 404, "Part 2"),
        ([f"{UPLOADS}/01890000-0000-7000-8000-000000000000"], 404, "Part 1"),
        ([*whole, *whole], 400, "twice"),
        (["/v1/files/01890000-0000-7000-8000-000000000000"], 400, "not the URL of an upload"),
        (["http://[broken"], 400, "not the URL of an upload"),
        ([], 400, "1 to 100 parts"),
        ([f"{UPLOADS}/01890000-0000-7000-8000-{n:012d}" for n in range(101)], 400, "1 to 100 parts"),
    ]:
        answer = join(sender, addresses)
        assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
        assert words in answer.json()["detail"], answer.json()
    assert not File.objects.exists()
    # All are still there.
    assert [sender.ask(address).status_code for address in (*whole, half, ordinary)] == [200] * 3
    for header in ("", "partly", "partial;x", "final", "final;", ";"):
        sent = {**TUS, "Upload-Concat": header, "Upload-Length": "3"}
        assert sender.client.generic("POST", UPLOADS, headers=sent).status_code == 400, header


def test_what_is_no_file_takes_its_parts_with_it(sender: Sender, user: User) -> None:
    addresses = send_parts(sender, [b"This is ", b"no picture."])
    answer = join(sender, addresses)
    assert answer.status_code == 422
    assert not Upload.objects.filter(owner=user).exists()


def test_parts_take_room_and_the_file_takes_it_once(sender: Sender, user: User, settings: Settings) -> None:
    # Room for the file, and not for another one beside it.
    user.quota_bytes = int(len(PICTURE) * 1.5)
    user.save()
    addresses = send_parts(sender)
    assert begin_part(sender, len(PICTURE)).status_code == 413
    assert join(sender, addresses).status_code == 201
    assert begin_part(sender, len(PICTURE)).status_code == 413
    settings.UNFINISHED_UPLOADS_MAX = 2
    assert [begin_part(sender, 1).status_code for _ in range(3)] == [201, 201, 409]


def test_a_sum_that_is_too_large_is_refused(sender: Sender, settings: Settings) -> None:
    addresses = send_parts(sender)
    settings.RESUMABLE_MAX_BYTES = len(PICTURE) - 1
    assert join(sender, addresses).status_code == 413


def test_parts_expire_and_are_no_unfinished_files(sender: Sender, user: User) -> None:
    addresses = send_parts(sender)
    half = begin_part(sender, 10)["Location"]
    Upload.objects.update(updated_at=timezone.now() - timedelta(hours=1))
    assert not unfinished_uploads(owner=user).exists()
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert sender.ask(half).status_code == 404
    assert join(sender, addresses).status_code == 404
    assert expiry.sweep_uploads() == len(addresses) + 1
    assert not any(part_files.part_path(UUID(address.rsplit("/", 1)[-1])).exists() for address in addresses)


def test_a_taken_name_is_settled_as_asked(sender: Sender, user: User) -> None:
    sender.at_once()
    there = File.objects.get()
    replaced = join(sender, send_parts(sender), filename="sea.jpg", onConflict="replace")
    assert replaced["Content-Location"].endswith(str(there.pk))
    there.refresh_from_db()
    assert there.blob_id == hashlib.sha256(PICTURE).hexdigest()
    skipped = join(sender, send_parts(sender), filename="sea.jpg", onConflict="skip")
    assert skipped["Content-Location"].endswith(str(there.pk))
    join(sender, send_parts(sender))
    assert sorted(File.objects.values_list("name", flat=True)) == ["sea (2).jpg", "sea.jpg"]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Upload-Defer-Length": "1"}, "Send Upload-Length"),
        ({"Upload-Complete": "?0"}, "IETF draft"),
        ({"Upload-Incomplete": "?1"}, "IETF draft"),
        ({"Upload-Draft-Interop-Version": "6"}, "IETF draft"),
        ({"Trailer": "Upload-Checksum"}, "as a header"),
        ({"Upload-Checksum": "crc32 AAAA"}, "sha256, sha1"),
        ({"Upload-Checksum": "sha1 @"}, "not base64"),
    ],
)
def test_a_header_that_is_not_offered_is_refused_at_once(sender: Sender, headers: Any, words: str) -> None:
    for answer in (sender.begin(headers=headers), begin_part(sender, 5, headers=headers)):
        assert answer.status_code == 400
        assert words in answer.json()["detail"]
    assert not Upload.objects.exists()
    where = sender.begin()["Location"]
    assert sender.append(where, 0, PICTURE, headers=headers).status_code == 400


def test_a_method_may_be_named_in_a_header(user: User, api: Callable[..., APIClient]) -> None:
    client, read_only = api(user, ["write"]), api(user, ["read"])
    where = Sender(client).begin()["Location"]

    def ask(method: str, data: bytes = b"", who: APIClient = client, path: str = where, **more: str) -> Any:
        sent = {**TUS, "X-HTTP-Method-Override": method, **{k.replace("_", "-"): v for k, v in more.items()}}
        return who.generic("POST", path, data, content_type=BODY, headers=sent)

    assert ask("PATCH", PICTURE[:99], Upload_Offset="0")["Upload-Offset"] == "99"
    assert ask("head")["Upload-Offset"] == "99"
    for method in ("PATCH", "DELETE"):
        assert ask(method, who=read_only, Upload_Offset="99").status_code == 403
    run_only = api(user, ["run"])
    assert ask("HEAD", who=run_only).status_code == 403
    assert ask("PUT").status_code == 405
    assert ask("POST").status_code == 405
    assert ask("OPTIONS").status_code == 204
    assert ask("DELETE").status_code == 204
    assert ask("HEAD").status_code == 404
    # Everywhere else the header means nothing.
    assert ask("DELETE", path="/v1/folders").status_code == 422


def test_a_browser_needs_its_token_for_the_method_that_it_names(
    user: User, client_of: Callable[[User], Any], api: Callable[..., APIClient]
) -> None:
    where = Sender(api(user)).begin()["Location"]
    browser = client_of(user)
    browser.handler.enforce_csrf_checks = True
    for method in ("PATCH", "DELETE"):
        sent = {**TUS, "X-HTTP-Method-Override": method, "Upload-Offset": "0"}
        assert browser.generic("POST", where, b"", BODY, headers=sent).status_code == 403
    assert Upload.objects.exists()


@pytest.mark.parametrize("is_same", [True, False])
def test_two_final_uploads_of_the_same_parts_at_once(
    sender: Sender, is_same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = send_parts(sender)
    store = uploads_services.store_upload
    others: list[Any] = []

    def store_late(**given: Any) -> Any:
        found = store(**given)
        monkeypatch.setattr(uploads_services, "store_upload", store)
        # Another request comes first while this one has stored its bytes.
        others.append(join(sender, addresses if is_same else addresses[:2] + addresses[:1:-1]))
        return found

    monkeypatch.setattr(uploads_services, "store_upload", store_late)
    answer = join(sender, addresses)
    [other] = others
    assert other.status_code == 201
    if is_same:
        assert (answer.status_code, answer["Location"]) == (201, other["Location"])
    else:
        # The other one has taken the parts up, in another order.
        assert answer.status_code == 404
    assert (File.objects.count(), Upload.objects.count()) == (1, 1)
