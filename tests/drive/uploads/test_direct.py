"""Large files that browsers send into the bucket by themselves, against a real S3 server."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection

from accounts.models import User
from drive.models import File, FileState, Folder, OnConflict, Upload
from drive.storage import blobs
from drive.storage.s3 import BucketStorage
from drive.uploads import direct, direct_work, s3_multipart, work
from drive.uploads.direct import Stage
from ipau.common.errors import Conflict, DomainError, Invalid, NotFound, TooLarge
from tests.drive.factories import upload
from tests.drive.storage.buckets import keys
from tests.drive.uploads.direct import MB, begin, check, put, put_to, send
from tests.pictures import picture_bytes

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("offered")]


# --- The whole way.


def test_a_file_goes_in_parts_into_the_bucket_and_becomes_a_file(
    user: User, bucket: BucketStorage, large_picture: bytes
) -> None:
    begun = begin(user, large_picture)
    assert list(s3_multipart.sizes_of(begun).values()) == [8 * MB, 8 * MB, MB]
    assert direct.received(begun) == []
    put(begun, large_picture, 3, 1)
    assert direct.received(begun) == [1, 3]
    with pytest.raises(Conflict, match="missing"):
        direct.finish_upload(upload=begun)
    put(begun, large_picture, 2)
    sent = direct.finish_upload(upload=begun)
    assert direct.stage_of(sent) == Stage.CHECKING
    assert not File.objects.exists()

    done = check(sent)
    assert direct.stage_of(done) == Stage.FINISHED
    file = File.objects.get()
    assert (done.file, file.name, file.size, file.width) == (file, "sea.png", len(large_picture), 200)
    assert file.blob_id == hashlib.sha256(large_picture).hexdigest()
    # What lay there meanwhile is gone.
    assert keys(bucket) == {file.blob.path}
    assert bucket.unfinished("") == []
    assert blobs.read(file.blob_id) == large_picture
    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    assert file.state == FileState.READY


def test_addresses_are_signed_for_one_part_of_a_fixed_length_and_run_out(
    user: User, large_picture: bytes
) -> None:
    begun = begin(user, large_picture)
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
    user: User, bucket: BucketStorage, large_picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = check(send(user, large_picture, key="1")).file
    monkeypatch.setattr(BucketStorage, "copy", None)
    second = check(send(user, large_picture, key="2")).file
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("sea.png", "sea (2).png")
    assert first.blob_id == second.blob_id
    assert keys(bucket) == {first.blob.path}


@pytest.mark.parametrize("choice", list(OnConflict))
def test_a_name_that_is_taken(user: User, large_picture: bytes, choice: OnConflict) -> None:
    old = upload(user, "sea.png", data=picture_bytes("PNG"))
    begun = begin(user, large_picture, on_conflict=choice)
    if choice == OnConflict.SKIP:
        assert (direct.stage_of(begun), begun.file) == (Stage.FINISHED, old)
        return
    put(begun, large_picture)
    made = check(direct.finish_upload(upload=begun)).file
    assert made is not None
    names = set(File.objects.values_list("name", flat=True))
    if choice == OnConflict.REPLACE:
        assert (made.pk, made.size, names) == (old.pk, len(large_picture), {"sea.png"})
    else:
        assert names == {"sea.png", "sea (2).png"}


def test_folders_of_a_dropped_tree_are_made(user: User, large_picture: bytes) -> None:
    home = Folder.objects.create(owner=user, name="Home")
    made = check(send(user, large_picture, "Holiday/Day 1/sea.png", folder=home)).file
    assert made is not None
    assert made.folder is not None
    assert made.folder.parent is not None
    assert (made.folder.name, made.folder.parent.name) == ("Day 1", "Holiday")
    assert made.folder.parent.parent == home


def test_a_large_object_is_copied_in_pieces_and_read_in_ranges(
    bucket: BucketStorage, monkeypatch: pytest.MonkeyPatch, large_picture: bytes
) -> None:
    monkeypatch.setattr("drive.storage.s3.COPY_BYTES", 5 * MB)
    monkeypatch.setattr("drive.storage.s3.RANGE_BYTES", MB)
    bucket.bucket.put_object(Key="incoming/x", Body=large_picture)
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
        assert content.read(100) == large_picture[-10:]
        content.seek(0)
        calls.clear()
        assert content.read() == large_picture
    assert calls == ["GetObject"] * 17


# --- What is refused before a byte is sent.


def test_what_has_no_room_is_refused_at_once(user: User, bucket: BucketStorage, settings: Any) -> None:
    user.quota_bytes = 40 * MB
    user.save()
    with pytest.raises(TooLarge, match="has 40"):
        begin(user, b"", length=41 * MB)
    begin(user, b"", "one.png", length=30 * MB)
    # The first may yet use what it was promised.
    with pytest.raises(TooLarge, match="Other unfinished uploads"):
        begin(user, b"", "two.png", length=20 * MB)
    begin(user, b"", "three.png", length=10 * MB)
    settings.RESUMABLE_MAX_BYTES = 5 * MB
    with pytest.raises(TooLarge, match="The limit is 5 MB"):
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


def test_a_repeated_beginning_begins_nothing_new(
    user: User, bucket: BucketStorage, large_picture: bytes
) -> None:
    first = begin(user, large_picture)
    assert begin(user, large_picture) == first
    assert len(bucket.unfinished("incoming/")) == 1
    with pytest.raises(Conflict):
        begin(user, large_picture + b"more", key="sea.png")


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


def test_parts_of_another_length_do_not_count(
    user: User, bucket: BucketStorage, large_picture: bytes
) -> None:
    begun = begin(user, large_picture)
    put(begun, large_picture)
    (part,) = direct.sign_parts(upload=begun, numbers=[3])
    # A real S3 refuses this by the signature already.
    put_to(part.url, b"x" * 6 * MB)
    assert direct.received(begun) == [1, 2]
    with pytest.raises(Conflict, match="missing"):
        direct.finish_upload(upload=begun)


def test_a_part_that_is_changed_after_the_end_is_found_out(
    user: User, bucket: BucketStorage, large_picture: bytes
) -> None:
    begun = begin(user, large_picture)
    put(begun, large_picture)
    late = direct.sign_parts(upload=begun, numbers=[1, 3])
    sent = direct.finish_upload(upload=begun)
    put_to(late[1].url, b"x" * 6 * MB)
    refused = check(sent)
    assert refused.reason == "Some uploaded parts have changed or are missing. Upload the file again."
    assert keys(bucket) == set()
    # The address leads nowhere any more.
    with pytest.raises(HTTPError):
        put_to(late[0].url, large_picture[: 8 * MB])


def test_room_that_is_gone_at_the_end(user: User, bucket: BucketStorage, large_picture: bytes) -> None:
    sent = send(user, large_picture)
    user.quota_bytes = 10 * MB
    user.save()
    refused = check(sent)
    assert "Empty the trash" in refused.reason
    assert not File.objects.exists()
    assert keys(bucket) == set()
