"""Large files that browsers send into the bucket by themselves, against a real S3 server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import User
from drive import blobs, direct, direct_work, multipart, parts, tasks, uploading, work
from drive.bucket import BucketStorage
from drive.direct import Stage
from drive.models import File, FileState, Folder, OnConflict, Upload
from drive.paths import clean_path
from ipau.common.errors import Conflict, DomainError, Invalid, NotFound, TooLarge, Unavailable
from tests.drive.buckets import keys, use
from tests.drive.drives import upload
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db
MB = 2**20


@pytest.fixture(autouse=True)
def _offered(bucket: BucketStorage, settings: Any) -> None:
    settings.S3_DIRECT = True


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A picture of more than two parts: noise does not become smaller."""
    data = picture_bytes("PNG", 200, 200, seed=1)
    return data + b"\0" * (17 * MB - len(data))


def begin(owner: User, data: bytes, name: str = "sea.png", **how: Any) -> Upload:
    given = {"folder": None, "on_conflict": OnConflict.KEEP_BOTH, "key": name, "length": len(data), **how}
    return direct.begin_upload(owner=owner, place=clean_path(name), **given)


def put_to(url: str, data: bytes) -> None:
    """Send bytes to an address, as a browser does."""
    request = Request(url, data=data, method="PUT")
    request.add_header("Content-Type", "application/octet-stream")
    with urlopen(request) as answer:
        assert answer.status == 200


def put(begun: Upload, data: bytes, *numbers: int) -> None:
    """Send parts as a browser does: to signed addresses."""
    wanted = numbers or tuple(multipart.sizes_of(begun))
    for part in direct.sign_parts(upload=begun, numbers=wanted):
        start = (part.number - 1) * begun.part_size
        put_to(part.url, data[start : start + part.size])


def send(owner: User, data: bytes, name: str = "sea.png", **how: Any) -> Upload:
    """Send all of a file, and say so."""
    begun = begin(owner, data, name, **how)
    put(begun, data)
    return direct.finish_upload(upload=begun)


def check(sent: Upload) -> Upload:
    tasks.check_upload(str(sent.pk))
    sent.refresh_from_db()
    return sent


def age(days: float, **rows: Any) -> None:
    Upload.objects.filter(**rows).update(expires_at=timezone.now() - timedelta(days=days))


# --- The whole way.


def test_a_file_goes_in_parts_into_the_bucket_and_becomes_a_file(
    user: User, bucket: BucketStorage, picture: bytes
) -> None:
    begun = begin(user, picture)
    assert list(multipart.sizes_of(begun).values()) == [8 * MB, 8 * MB, MB]
    assert direct.received(begun) == []
    put(begun, picture, 3, 1)
    assert direct.received(begun) == [1, 3]
    with pytest.raises(Conflict, match="missing"):
        direct.finish_upload(upload=begun)
    put(begun, picture, 2)
    sent = direct.finish_upload(upload=begun)
    assert direct.stage_of(sent) == Stage.CHECKING
    assert not File.objects.exists()

    done = check(sent)
    assert direct.stage_of(done) == Stage.FINISHED
    file = File.objects.get()
    assert (done.file, file.name, file.size, file.width) == (file, "sea.png", len(picture), 200)
    assert file.blob_id == hashlib.sha256(picture).hexdigest()
    # What lay there meanwhile is gone.
    assert keys(bucket) == {file.blob.path}
    assert bucket.unfinished("") == []
    assert blobs.read(file.blob_id) == picture
    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    assert file.state == FileState.READY


def test_addresses_are_signed_for_one_part_of_a_fixed_length_and_run_out(user: User, picture: bytes) -> None:
    begun = begin(user, picture)
    (part,) = direct.sign_parts(upload=begun, numbers=[3])
    told = parse_qs(urlsplit(part.url).query)
    assert told["partNumber"] == ["3"]
    assert told["uploadId"] == [begun.multipart_id]
    assert told["X-Amz-SignedHeaders"] == ["content-length;host"]
    assert int(told["X-Amz-Expires"][0]) == direct.SIGNED_SECONDS
    assert urlsplit(part.url).path == f"/pictures/incoming/{user.pk}/{begun.pk}"
    for numbers in ([], [0], [4], range(1, 30)):
        with pytest.raises(Invalid):
            direct.sign_parts(upload=begun, numbers=numbers)


def test_the_same_content_twice_costs_its_bytes_once(
    user: User, bucket: BucketStorage, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = check(send(user, picture, key="1")).file
    monkeypatch.setattr(BucketStorage, "copy", None)
    second = check(send(user, picture, key="2")).file
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("sea.png", "sea (2).png")
    assert first.blob_id == second.blob_id
    assert keys(bucket) == {first.blob.path}


@pytest.mark.parametrize("choice", list(OnConflict))
def test_a_name_that_is_taken(user: User, picture: bytes, choice: OnConflict) -> None:
    old = upload(user, "sea.png", data=picture_bytes("PNG"))
    begun = begin(user, picture, on_conflict=choice)
    if choice == OnConflict.SKIP:
        assert (direct.stage_of(begun), begun.file) == (Stage.FINISHED, old)
        return
    put(begun, picture)
    made = check(direct.finish_upload(upload=begun)).file
    assert made is not None
    names = set(File.objects.values_list("name", flat=True))
    if choice == OnConflict.REPLACE:
        assert (made.pk, made.size, names) == (old.pk, len(picture), {"sea.png"})
    else:
        assert names == {"sea.png", "sea (2).png"}


def test_folders_of_a_dropped_tree_are_made(user: User, picture: bytes) -> None:
    home = Folder.objects.create(owner=user, name="Home")
    made = check(send(user, picture, "Holiday/Day 1/sea.png", folder=home)).file
    assert made is not None
    assert made.folder is not None
    assert made.folder.parent is not None
    assert (made.folder.name, made.folder.parent.name) == ("Day 1", "Holiday")
    assert made.folder.parent.parent == home


def test_a_large_object_is_copied_in_pieces_and_read_in_ranges(
    bucket: BucketStorage, monkeypatch: pytest.MonkeyPatch, picture: bytes
) -> None:
    monkeypatch.setattr("drive.bucket.COPY_BYTES", 5 * MB)
    monkeypatch.setattr("drive.bucket.RANGE_BYTES", MB)
    bucket.bucket.put_object(Key="incoming/x", Body=picture)
    calls: list[str] = []
    bucket.connection.meta.client.meta.events.register(
        "before-call.s3", lambda model, **_: calls.append(model.name)
    )
    told: list[int] = []
    bucket.copy("incoming/x", "aa/bb/x", lambda: told.append(1))
    assert calls.count("UploadPartCopy") == len(told) == 4

    def stop() -> None:
        raise direct_work.LostUpload

    with pytest.raises(direct_work.LostUpload):
        bucket.copy("incoming/x", "aa/bb/y", stop)
    assert not bucket.exists("aa/bb/y")
    with bucket.open_ranges("aa/bb/x") as content:
        content.seek(-10, 2)
        assert content.read(100) == picture[-10:]
        content.seek(0)
        assert content.read() == picture


# --- What is refused before a byte is sent.


def test_what_has_no_room_is_refused_at_once(user: User, bucket: BucketStorage, settings: Any) -> None:
    user.quota_bytes = 40 * MB
    user.save()
    with pytest.raises(TooLarge, match="has 40"):
        begin(user, b"", length=41 * MB)
    begin(user, b"", "one.png", length=30 * MB)
    # The first may yet use what it was promised.
    with pytest.raises(TooLarge, match="Other uploads"):
        begin(user, b"", "two.png", length=20 * MB)
    begin(user, b"", "three.png", length=10 * MB)
    settings.RESUMABLE_MAX_BYTES = 5 * MB
    with pytest.raises(TooLarge, match="at most 5 MB"):
        begin(user, b"", "four.png", length=6 * MB)
    with pytest.raises(Invalid, match="empty"):
        begin(user, b"", "five.png", length=0)
    assert len(bucket.unfinished("incoming/")) == Upload.objects.count() == 2


def test_two_at_once_are_not_promised_the_same_room(
    transactional_db: None, user: User, bucket: BucketStorage
) -> None:
    user.quota_bytes = 40 * MB
    user.save()
    together = threading.Barrier(4)

    def attempt(number: int) -> object:
        try:
            together.wait(10)
            return begin(user, b"", f"{number}.png", length=30 * MB)
        except DomainError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(attempt, range(4)))
    assert sum(isinstance(one, Upload) for one in found) == 1
    assert sum(isinstance(one, TooLarge) for one in found) == 3
    assert len(bucket.unfinished("incoming/")) == 1


def test_a_repeated_beginning_begins_nothing_new(user: User, bucket: BucketStorage, picture: bytes) -> None:
    first = begin(user, picture)
    assert begin(user, picture) == first
    assert len(bucket.unfinished("incoming/")) == 1
    with pytest.raises(Conflict):
        begin(user, picture + b"more", key="sea.png")


def test_sites_that_do_not_offer_it(user: User, settings: Any) -> None:
    settings.S3_DIRECT = False
    with pytest.raises(NotFound):
        begin(user, b"", length=20 * MB)


# --- Senders who lie.


def test_what_no_drive_keeps_is_refused_with_a_sentence(user: User, bucket: BucketStorage) -> None:
    refused = check(send(user, b"<html>" + b" " * (17 * MB)))
    assert direct.stage_of(refused) == Stage.REFUSED
    with pytest.raises(Invalid) as error:
        upload(user, data=b"<html>" + b" " * 1000)
    assert refused.reason == error.value.message
    assert not File.objects.exists()
    assert keys(bucket) == set()
    # Nothing that comes twice or late brings it back.
    assert direct.finish_upload(upload=refused) == refused
    assert check(refused).file is None


def test_parts_of_another_length_do_not_count(user: User, bucket: BucketStorage, picture: bytes) -> None:
    begun = begin(user, picture)
    put(begun, picture)
    (part,) = direct.sign_parts(upload=begun, numbers=[3])
    # A real S3 refuses this by the signature already.
    put_to(part.url, b"x" * 6 * MB)
    assert direct.received(begun) == [1, 2]
    with pytest.raises(Conflict, match="missing"):
        direct.finish_upload(upload=begun)


def test_a_part_that_is_changed_after_the_end_is_found_out(
    user: User, bucket: BucketStorage, picture: bytes
) -> None:
    begun = begin(user, picture)
    put(begun, picture)
    late = direct.sign_parts(upload=begun, numbers=[1, 3])
    sent = direct.finish_upload(upload=begun)
    put_to(late[1].url, b"x" * 6 * MB)
    refused = check(sent)
    assert refused.reason == "Some of what was uploaded has changed or is missing."
    assert keys(bucket) == set()
    # The address leads nowhere any more.
    with pytest.raises(HTTPError):
        put_to(late[0].url, picture[: 8 * MB])


def test_room_that_is_gone_at_the_end(user: User, bucket: BucketStorage, picture: bytes) -> None:
    sent = send(user, picture)
    user.quota_bytes = 10 * MB
    user.save()
    refused = check(sent)
    assert "Empty the trash" in refused.reason
    assert not File.objects.exists()
    assert keys(bucket) == set()


# --- Crashes, lost messages, buckets that do not answer.


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["finish_parts", "copy", "delete"])
def test_a_worker_that_dies_is_followed_by_another(
    user: User, bucket: BucketStorage, picture: bytes, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    sent = send(user, picture)
    real = getattr(BucketStorage, step)

    def done_and_killed(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(BucketStorage, step, done_and_killed)
    with pytest.raises(Killed):
        direct_work.check_upload(sent.pk)
    monkeypatch.undo()
    # Somebody may still be at it; when the lease has run out, nobody is.
    assert direct_work.check_upload(sent.pk) is None
    Upload.objects.filter(check_until__isnull=False).update(check_until=timezone.now() - timedelta(seconds=1))
    waiting = direct_work.uploads_waiting(older_than=timedelta(seconds=8))
    for upload_id in waiting:
        assert direct_work.check_upload(UUID(upload_id)) == user.pk
    assert bool(waiting) == (step != "delete")
    file = File.objects.get()
    assert file.blob_id == hashlib.sha256(picture).hexdigest()
    assert file.blob.path in keys(bucket)


def test_an_upload_that_kills_its_workers_is_refused(user: User, picture: bytes) -> None:
    sent = send(user, picture)
    Upload.objects.update(checks=direct_work.MAX_CHECKS, check_until=timezone.now() - timedelta(seconds=1))
    assert check(sent).reason == "This file could not be checked."


def test_a_late_worker_changes_nothing(
    user: User, bucket: BucketStorage, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = send(user, picture)
    monkeypatch.setattr(direct_work, "RENEW_SECONDS", 0.0)
    real = direct_work.sniff

    def overtaken(content: Any) -> Any:
        Upload.objects.filter(pk=sent.pk).update(check_until=timezone.now() - timedelta(seconds=1))
        return real(content)

    monkeypatch.setattr(direct_work, "sniff", overtaken)
    assert direct_work.check_upload(sent.pk) is None
    assert not File.objects.exists()
    monkeypatch.setattr(direct_work, "sniff", real)
    assert check(sent).file


def test_given_up_while_it_is_checked(
    user: User, bucket: BucketStorage, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = send(user, picture)
    monkeypatch.setattr(direct_work, "RENEW_SECONDS", 0.0)
    real = direct_work.sniff

    def given_up(content: Any) -> Any:
        found = real(content)
        uploading.drop_upload(upload=sent)
        return found

    monkeypatch.setattr(direct_work, "sniff", given_up)
    assert direct_work.check_upload(sent.pk) is None
    assert not File.objects.exists()
    assert not Upload.objects.exists()
    assert keys(bucket) == set()


def test_a_bucket_that_does_not_answer_costs_no_upload(
    user: User, settings: Any, endpoint: str, picture: bytes
) -> None:
    begun = begin(user, picture)
    put(begun, picture)
    use(settings, "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="try again later"):
        direct.finish_upload(upload=begun)
    with pytest.raises(Unavailable):
        begin(user, picture, "other.png")
    use(settings, endpoint)
    sent = direct.finish_upload(upload=begun)
    use(settings, "http://127.0.0.1:9")
    for _ in range(direct_work.MAX_CHECKS + 1):
        assert direct_work.check_upload(sent.pk) is None
        Upload.objects.update(check_until=timezone.now() - timedelta(seconds=1))
    use(settings, endpoint)
    assert check(sent).file


def test_the_sweep_wakes_a_worker_whose_message_was_lost(
    user: User, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = send(user, picture)
    woken: list[str] = []
    monkeypatch.setattr(tasks, "send_check", lambda *, upload_id: woken.append(upload_id))
    tasks.sweep()
    assert woken == []
    Upload.objects.update(sent_at=timezone.now() - timedelta(seconds=20))
    tasks.sweep()
    assert woken == [str(sent.pk)]
    check(sent)
    tasks.sweep()
    assert woken == [str(sent.pk)]


# --- What is left behind.


def test_uploads_whose_time_is_over_leave_nothing(user: User, bucket: BucketStorage, picture: bytes) -> None:
    begun = begin(user, picture)
    put(begun, picture, 1)
    age(0.01)
    assert parts.sweep_uploads() == 1
    assert not Upload.objects.exists()
    assert bucket.unfinished("incoming/") == []
    with pytest.raises(NotFound):
        direct.get_upload(owner=user, upload_id=begun.pk)


def test_what_crashes_left_in_the_bucket_is_swept(
    user: User, bucket: BucketStorage, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = begin(user, picture, "kept.png")
    put(kept, picture, 1)
    checking = send(user, picture, "checking.png")
    bucket.finish_parts(multipart.name_of(checking), checking.multipart_id, multipart.arrived(checking))
    # An object whose upload is gone, and what is not ours.
    bucket.bucket.put_object(Key=f"incoming/{user.pk}/{UUID(int=2)}", Body=b"x")
    bucket.bucket.put_object(Key="elsewhere/x", Body=b"x")
    assert multipart.sweep_bucket() == 0
    monkeypatch.setattr(multipart, "GRACE", timedelta(seconds=-5))
    # Begun without a row. (This server tells no true age of such.)
    bucket.begin_parts(f"incoming/{user.pk}/{UUID(int=1)}")
    assert multipart.sweep_bucket() == 2
    assert [left.name for left in bucket.unfinished("incoming/")] == [multipart.name_of(kept)]
    assert keys(bucket) == {multipart.name_of(checking), "elsewhere/x"}


def test_a_bucket_that_lost_an_upload(user: User, bucket: BucketStorage, picture: bytes) -> None:
    begun = begin(user, picture)
    bucket.abort_parts(multipart.name_of(begun), begun.multipart_id)
    with pytest.raises(NotFound):
        direct.received(begun)
    assert not Upload.objects.exists()


# --- Who may, over HTTP.


def test_the_pages_protocol(
    user: User, other_user: User, client_of: Callable[..., Client], picture: bytes
) -> None:
    client = client_of(user)
    told = {"name": "sea.png", "path": "", "folder": "", "length": len(picture), "key": "k"}
    begun = client.post("/drive/upload/direct/", told)
    assert begun.status_code == 201
    body = begun.json()
    assert (body["stage"], body["part_size"], body["parts"], body["received"]) == ("receiving", 8 * MB, 3, [])
    address = f"/drive/upload/direct/{body['id']}/"
    signed = client.post(f"{address}parts/", {"number": [1, 2, 3]}).json()["parts"]
    for part in signed:
        start = (part["number"] - 1) * body["part_size"]
        data = picture[start : start + part["size"]]
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
