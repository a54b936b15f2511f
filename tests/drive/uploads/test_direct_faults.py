"""Files sent into the bucket, where workers die, messages are lost, and the bucket does not answer."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from accounts.models import User
from drive.models import File, Upload
from drive.storage.s3 import BucketStorage
from drive.uploads import direct, direct_work, expiry, resumable, s3_multipart, tasks
from ipau.common import leases
from ipau.common.errors import NotFound, Unavailable
from tests.drive.storage.buckets import keys, use
from tests.drive.uploads.direct import age, begin, check, put, send

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("offered")]


# --- Crashes, lost messages, buckets that do not answer.


class Killed(BaseException):
    pass


def let_lease_expire() -> None:
    held = Upload.objects.filter(lease_token__isnull=False)
    held.update(lease_expires_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("step", ["finish_parts", "copy", "delete"])
def test_a_worker_that_dies_is_followed_by_another(
    user: User, bucket: BucketStorage, large_picture: bytes, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    sent = send(user, large_picture)
    real = getattr(BucketStorage, step)

    def done_and_killed(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(BucketStorage, step, done_and_killed)
    with pytest.raises(Killed):
        direct_work.check_upload(sent.pk)
    monkeypatch.undo()
    # Another worker may still check it, until its lease expires.
    assert direct_work.check_upload(sent.pk) is None
    let_lease_expire()
    waiting = direct_work.uploads_waiting()
    for upload_id in waiting:
        assert direct_work.check_upload(UUID(upload_id)) == user.pk
    assert bool(waiting) == (step != "delete")
    file = File.objects.get()
    assert file.blob_id == hashlib.sha256(large_picture).hexdigest()
    assert file.blob.path in keys(bucket)


def test_an_upload_that_kills_its_workers_is_refused(user: User, large_picture: bytes) -> None:
    sent = send(user, large_picture)
    Upload.objects.update(attempts=direct_work.MAX_ATTEMPTS)
    assert check(sent).reason == "Checking this file failed 3 times. Try to upload it again."


def test_a_late_worker_changes_nothing(
    user: User, bucket: BucketStorage, large_picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = send(user, large_picture)
    monkeypatch.setattr(direct_work, "RENEW_SECONDS", 0.0)
    real = direct_work.sniff

    def overtaken(content: Any) -> Any:
        # Its lease has run out, and another worker has claimed it.
        let_lease_expire()
        assert leases.claim_first(Upload.objects.filter(pk=sent.pk), lease=timedelta(seconds=60))
        return real(content)

    monkeypatch.setattr(direct_work, "sniff", overtaken)
    assert direct_work.check_upload(sent.pk) is None
    assert not File.objects.exists()
    monkeypatch.setattr(direct_work, "sniff", real)
    let_lease_expire()
    assert check(sent).file


def test_given_up_while_it_is_checked(
    user: User, bucket: BucketStorage, large_picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = send(user, large_picture)
    monkeypatch.setattr(direct_work, "RENEW_SECONDS", 0.0)
    real = direct_work.sniff

    def given_up(content: Any) -> Any:
        found = real(content)
        resumable.drop_upload(upload=sent)
        return found

    monkeypatch.setattr(direct_work, "sniff", given_up)
    assert direct_work.check_upload(sent.pk) is None
    assert not File.objects.exists()
    assert not Upload.objects.exists()
    assert keys(bucket) == set()


def test_a_bucket_that_does_not_answer_costs_no_upload(
    user: User, settings: Any, endpoint: str, large_picture: bytes
) -> None:
    begun = begin(user, large_picture)
    put(begun, large_picture)
    use(settings, "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="try again later"):
        direct.finish_upload(upload=begun)
    with pytest.raises(Unavailable):
        begin(user, large_picture, "other.png")
    use(settings, endpoint)
    sent = direct.finish_upload(upload=begun)
    use(settings, "http://127.0.0.1:9")
    for _ in range(direct_work.MAX_ATTEMPTS + 1):
        assert direct_work.check_upload(sent.pk) is None
        let_lease_expire()
    use(settings, endpoint)
    assert check(sent).file


def test_the_sweep_wakes_a_worker_whose_message_was_lost(
    user: User, large_picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = send(user, large_picture)
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


def test_uploads_whose_time_is_over_leave_nothing(
    user: User, bucket: BucketStorage, large_picture: bytes
) -> None:
    begun = begin(user, large_picture)
    put(begun, large_picture, 1)
    age(0.01)
    assert expiry.sweep_uploads() == 1
    assert not Upload.objects.exists()
    assert bucket.unfinished("incoming/") == []
    with pytest.raises(NotFound):
        direct.get_direct(owner=user, upload_id=begun.pk)


def test_what_crashes_left_in_the_bucket_is_swept(
    user: User, bucket: BucketStorage, large_picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = begin(user, large_picture, "kept.png")
    put(kept, large_picture, 1)
    checking = send(user, large_picture, "checking.png")
    bucket.finish_parts(s3_multipart.name_of(checking), checking.multipart_id, s3_multipart.arrived(checking))
    # An object whose upload is gone, and what is not ours.
    bucket.bucket.put_object(Key=f"incoming/{user.pk}/{UUID(int=2)}", Body=b"x")
    bucket.bucket.put_object(Key="elsewhere/x", Body=b"x")
    assert s3_multipart.sweep_bucket() == 0
    monkeypatch.setattr(s3_multipart, "GRACE", timedelta(seconds=-5))
    # Begun without a row. (This server tells no true age of such.)
    bucket.begin_parts(f"incoming/{user.pk}/{UUID(int=1)}")
    assert s3_multipart.sweep_bucket() == 2
    assert [left.name for left in bucket.unfinished("incoming/")] == [s3_multipart.name_of(kept)]
    assert keys(bucket) == {s3_multipart.name_of(checking), "elsewhere/x"}


def test_a_bucket_that_lost_an_upload(user: User, bucket: BucketStorage, large_picture: bytes) -> None:
    begun = begin(user, large_picture)
    bucket.abort_parts(s3_multipart.name_of(begun), begun.multipart_id)
    with pytest.raises(NotFound):
        direct.received(begun)
    assert not Upload.objects.exists()


# --- Many at a time.


def test_one_is_checked_at_a_time_and_owners_alternate(
    user: User,
    other_user: User,
    bucket: BucketStorage,
    large_picture: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (send(user, large_picture, f"{n}.png") for n in range(2))
    theirs = send(other_user, large_picture)
    sent: list[str] = []
    monkeypatch.setattr(tasks, "send_check", lambda *, upload_id: sent.append(upload_id))
    # Of each owner the oldest, whatever stands before it.
    assert sorted(direct_work.uploads_waiting()) == sorted([str(first.pk), str(theirs.pk)])
    real, seen = direct_work.sniff, []

    def look(content: Any) -> Any:
        # Another slot has neither room for one of the same owner nor for one of another owner.
        for other in (second, theirs):
            seen.append(direct_work.check_upload(other.pk))
            tasks.check_upload(str(other.pk))
        return real(content)

    monkeypatch.setattr(direct_work, "sniff", look)
    assert check(first).file
    assert seen == [None, None]
    # The next one is woken by that which ends alone.
    assert len(sent) == 1
    assert sent[0] in (str(second.pk), str(theirs.pk))
    monkeypatch.setattr(direct_work, "sniff", real)
    assert check(theirs).file
    assert sent[1:] == [str(second.pk)]


def test_what_waits_for_a_bucket_takes_up_no_room(
    user: User, settings: Any, endpoint: str, bucket: BucketStorage, large_picture: bytes
) -> None:
    stuck, sent = send(user, large_picture, "a.png"), send(user, large_picture, "b.png")
    use(settings, "http://127.0.0.1:9")
    assert direct_work.check_upload(stuck.pk) is None
    use(settings, endpoint)
    assert direct_work.has_room()
    assert check(sent).file
