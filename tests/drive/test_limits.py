"""What one account may have at most: announced bytes, unfinished uploads, files, folders, links, keys."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.contrib.sessions.models import Session
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import services as accounts
from accounts.models import ApiKey, User
from accounts.tasks import sweep_sessions
from drive.files import quota, services, trash
from drive.files.paths import clean_path, folder_at
from drive.models import DriveUsage, Folder, OnConflict, Share, Upload
from drive.shares import services as shares
from drive.storage.s3 import BucketStorage
from drive.uploads import direct, expiry, resumable
from ipau.common.errors import Conflict, DomainError, Invalid, TooLarge
from tests.drive.api.test_uploads import PICTURE, Sender
from tests.drive.factories import upload
from tests.pictures import picture_bytes

MB = 2**20


@pytest.fixture
def sender(user: User, api: Callable[..., APIClient]) -> Sender:
    return Sender(api(user))


def begin(owner: User, length: int, name: str = "a.png", **more: Any) -> Upload:
    return resumable.begin_resumable(owner=owner, folder=None, place=clean_path(name), length=length, **more)


def begin_direct(owner: User, length: int, key: str) -> Upload:
    return direct.begin_direct(
        owner=owner, folder=None, place=clean_path("b.png"), length=length, on_conflict=OnConflict.KEEP_BOTH,
        key=key,
    )  # fmt: skip


# --- Announced bytes.


@pytest.mark.django_db
def test_sixty_uploads_of_400_mb_do_not_fit_into_10_gb(sender: Sender) -> None:
    codes = [sender.begin(length=400 * MB).status_code for _ in range(60)]
    assert codes == [201] * 25 + [413] * 35


@pytest.mark.django_db(transaction=True)
def test_announcements_at_once_are_not_promised_the_same_room(user: User) -> None:
    user.quota_bytes = 100 * MB
    user.save()
    together = threading.Barrier(6)

    def attempt(number: int) -> object:
        try:
            together.wait(10)
            return begin(user, 30 * MB, f"{number}.png")
        except DomainError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(attempt, range(6)))
    assert sum(isinstance(one, Upload) for one in found) == 3
    assert sum(isinstance(one, TooLarge) for one in found) == 3


@pytest.mark.django_db
def test_both_kinds_of_uploads_share_the_room(user: User, offered: None, bucket: BucketStorage) -> None:
    user.quota_bytes = 100 * MB
    user.save()
    begin_direct(user, 60 * MB, "one")
    with pytest.raises(TooLarge, match="Other unfinished uploads"):
        begin(user, 50 * MB)
    begin(user, 40 * MB)
    with pytest.raises(TooLarge, match="Other unfinished uploads"):
        begin_direct(user, 20 * MB, "two")
    assert len(bucket.unfinished("incoming/")) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["given up", "expired", "finished"])
def test_the_room_comes_back(sender: Sender, user: User, end: str) -> None:
    user.quota_bytes = 2 * len(PICTURE)
    user.save()
    first = sender.begin(length=2 * len(PICTURE))["Location"]
    assert sender.begin().status_code == 413
    match end:
        case "given up":
            assert sender.drop(first).status_code == 204
        case "expired":
            Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        case "finished":
            assert sender.drop(first).status_code == 204
            whole = sender.begin()["Location"]
            assert sender.append(whole, 0, PICTURE).status_code == 204
            assert quota.unfinished_uploads(user).count() == 0
            assert sender.begin(length=len(PICTURE) + 1).status_code == 413
    assert sender.begin().status_code == 201


@pytest.mark.django_db
def test_a_repeated_request_is_promised_its_room_once(user: User) -> None:
    user.quota_bytes = 50 * MB
    user.save()
    first = begin(user, 40 * MB, key="k")
    assert begin(user, 40 * MB, key="k") == first


@pytest.mark.django_db
def test_one_persons_uploads_take_no_room_of_another(user: User, other_user: User) -> None:
    begin(user, 4000 * MB)
    begin(user, 4000 * MB)
    assert begin(other_user, 4000 * MB)


@pytest.mark.django_db
def test_what_needs_no_bytes_needs_no_room(user: User) -> None:
    there = upload(user, "a.png", data=PICTURE)
    begin(user, quota.usage_of(user).left % (4000 * MB) or 1)
    user.quota_bytes = there.size
    user.save()
    skipped = begin(user, len(PICTURE), there.name, on_conflict=OnConflict.SKIP)
    assert skipped.file == there


# --- How many.


@pytest.mark.django_db
def test_unfinished_uploads_are_counted(sender: Sender, user: User, settings: Any) -> None:
    settings.UNFINISHED_UPLOADS_MAX = 3
    places = [sender.begin(length=10)["Location"] for _ in range(3)]
    refused = sender.begin(length=10)
    assert (refused.status_code, refused.json()["type"]) == (409, "about:blank#too_many_uploads")
    assert "the limit of 3 unfinished uploads" in refused.json()["detail"]
    # What comes whole is never unfinished.
    assert sender.at_once().status_code == 201
    assert sender.drop(places[0]).status_code == 204
    assert sender.begin(length=10).status_code == 201


@pytest.mark.django_db
def test_too_many_direct_uploads_leave_nothing_in_the_bucket(
    user: User, offered: None, bucket: BucketStorage, settings: Any
) -> None:
    settings.UNFINISHED_UPLOADS_MAX = 1
    begin_direct(user, 20 * MB, "one")
    with pytest.raises(Conflict, match="unfinished uploads"):
        begin_direct(user, 20 * MB, "two")
    assert len(bucket.unfinished("incoming/")) == 1


@pytest.mark.django_db
def test_files_are_counted(user: User, api: Callable[..., APIClient], settings: Any) -> None:
    settings.DRIVE_MAX_FILES = 2
    kept = upload(user, "a.jpg")
    upload(user, "b.jpg")
    sent = {"content": SimpleUploadedFile("c.jpg", picture_bytes())}
    answer = api(user).post("/v1/files", sent, format="multipart")
    assert (answer.status_code, answer.json()["type"]) == (413, "about:blank#too_many_files")
    trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[kept.pk]))
    trash.delete_forever(owner=user, root_ids=[kept.pk])
    assert DriveUsage.objects.get(pk=user.pk).files == 1
    assert upload(user, "c.jpg")


@pytest.mark.django_db
def test_folders_are_counted(
    user: User, other_user: User, api: Callable[..., APIClient], settings: Any
) -> None:
    settings.DRIVE_MAX_FOLDERS = 3
    folder_at(owner=user, folder=None, names=["a", "b"])
    with pytest.raises(Invalid, match="3 folders"):
        folder_at(owner=user, folder=None, names=["a", "b", "c", "d"])
    # All of the way or nothing.
    assert Folder.objects.filter(owner=user).count() == 2
    services.create_folder(owner=user, parent=None, name="c")
    answer = api(user).post("/v1/folders", {"name": "d"}, format="json")
    assert (answer.status_code, answer.json()["type"]) == (422, "about:blank#too_many_folders")
    with pytest.raises(Invalid):
        services.create_numbered_folder(owner=user, parent=None, name="c")
    assert services.create_folder(owner=other_user, parent=None, name="d")


@pytest.mark.django_db
def test_links_are_counted_and_revoked_ones_forgotten(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MOST_SHARES", 2)
    file = upload(user)
    made = [shares.create_share(owner=user, file_id=file.pk) for _ in range(2)]
    shares.revoke_share(owner=user, share_id=made[0].pk)
    with pytest.raises(Invalid, match="2 links"):
        shares.create_share(owner=user, file_id=file.pk)
    assert trash.sweep_revoked_shares() == 0
    Share.objects.filter(pk=made[0].pk).update(revoked_at=timezone.now() - timedelta(days=31))
    assert trash.sweep_revoked_shares() == 1
    assert shares.create_share(owner=user, file_id=file.pk)


@pytest.mark.django_db
def test_keys_are_counted_and_old_revoked_ones_forgotten(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MOST_KEYS", 2)
    monkeypatch.setattr(accounts, "MOST_REVOKED", 3)
    keys = [accounts.create_api_key(user=user, name=str(n)) for n in range(2)]
    with pytest.raises(Invalid, match="2 API keys"):
        accounts.create_api_key(user=user, name="more")
    for key in keys:
        accounts.revoke_api_key(user=user, key_id=key.row.pk)
    for number in range(6):
        row = accounts.create_api_key(user=user, name=f"next {number}").row
        accounts.revoke_api_key(user=user, key_id=row.pk)
    last = accounts.create_api_key(user=user, name="last").row
    names = set(ApiKey.objects.filter(user=user).values_list("name", flat=True))
    assert names == {"last", "next 3", "next 4", "next 5"}
    assert last.revoked_at is None


@pytest.mark.django_db
@pytest.mark.parametrize("choice", ["replace", "skip"])
def test_rows_of_uploads_that_add_no_file_are_counted(
    sender: Sender, user: User, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    monkeypatch.setattr(quota, "MOST_KEPT_UPLOADS", 4)
    told = {"filename": "a.jpg", "onConflict": choice}
    codes = [sender.at_once(**told).status_code for _ in range(6)]
    assert codes == [201] * 4 + [429] * 2
    assert sender.at_once(filename="a.jpg").status_code == 201
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    expiry.sweep_uploads()
    assert sender.at_once(**told).status_code == 201


@pytest.mark.django_db
def test_addresses_are_counted(user: User, client_of: Callable[[User], Client]) -> None:
    client = client_of(user)
    # Beside the one with which the person signs in.
    for number in range(4):
        sent = {"action_add": "", "email": f"another{number}@example.org"}
        assert client.post("/accounts/email/", sent).status_code == 302
        EmailAddress.objects.create(user=user, email=f"mine{number}@example.org", verified=True)
    answer = client.post("/accounts/email/", {"action_add": "", "email": "another@example.org"})
    assert answer.status_code == 200
    assert answer.context["form"].errors["email"] == ["You cannot add more than 5 email addresses."]
    assert "action_add" not in client.get("/accounts/email/").content.decode()


@pytest.mark.django_db
def test_sessions_that_are_over_are_deleted(user: User, client_of: Callable[[User], Client]) -> None:
    for _ in range(3):
        client_of(user)
    Session.objects.filter(pk__in=Session.objects.values("pk")[:2]).update(expire_date=timezone.now())
    sweep_sessions()
    assert Session.objects.count() == 1
