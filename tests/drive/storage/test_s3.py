"""The whole way of a picture with an S3 bucket instead of a folder."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.request import urlopen

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from drive.models import Blob, File, FileState, Thumbnail
from drive.storage import blobs, sweep
from drive.storage.s3 import BucketStorage
from drive.uploads import work
from processing.execution.work import take_turn
from processing.fleet import registry
from processing.job_queue import claims
from processing.models import Item, State
from tests.drive.factories import upload
from tests.drive.storage.buckets import keys, use
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_turns

pytestmark = pytest.mark.django_db


def test_a_picture_goes_up_is_checked_run_on_and_read_back(
    bucket: BucketStorage, user: User, client_of: Callable[..., Client], api: Callable[..., APIClient]
) -> None:
    data = picture_bytes(width=900, height=600, seed=3)
    file = upload(user, "sea.jpg", data=data)
    assert keys(bucket) == {file.blob.path}

    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    assert file.state == FileState.READY
    assert Thumbnail.objects.get(source=file.blob).blob.path in keys(bucket)

    job = submit(user, [file])
    take_turns(user)
    job.refresh_from_db()
    assert job.state == State.SUCCEEDED
    result = File.objects.get(folder=job.output_folder)

    # A browser is sent to the bucket, which says what the site would have said.
    page = client_of(user).get(reverse("drive:content", args=[result.pk]))
    assert page.status_code == 302
    with urlopen(page["Location"]) as answer:
        assert answer.read() == blobs.read(result.blob_id)
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.headers["Content-Disposition"] == 'inline; filename="sea.jpg"'

    # A client of the API follows no redirect.
    whole = api(user).get(f"/v1/files/{file.pk}/content")
    assert (whole.status_code, b"".join(whole.streaming_content)) == (200, data)
    part = api(user).get(f"/v1/files/{file.pk}/content", HTTP_RANGE="bytes=10-19")
    assert (part.status_code, b"".join(part.streaming_content)) == (206, data[10:20])


def test_what_nobody_refers_to_is_swept_out_of_the_bucket(bucket: BucketStorage, user: User) -> None:
    kept = upload(user, seed=1)
    gone = upload(user, "gone.jpg", seed=2)
    gone.delete()
    Blob.objects.update(touched_at=timezone.now() - timedelta(hours=2))
    assert sweep.sweep_orphans() == 1
    assert keys(bucket) == {kept.blob.path}


def test_bytes_without_a_row_are_found_in_the_bucket(
    bucket: BucketStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = blobs.store(b"nobody's", "text/plain")
    monkeypatch.setattr(sweep, "GRACE", timedelta(seconds=-5))
    assert sweep.adopt_strays(stored.sha256[:2]) == 1
    assert sweep.sweep_orphans() == 1
    assert keys(bucket) == set()


def test_lost_bytes_are_told_as_by_a_folder(bucket: BucketStorage) -> None:
    with pytest.raises(FileNotFoundError):
        blobs.read("0" * 64)


def test_a_bucket_that_does_not_answer_costs_no_picture(
    bucket: BucketStorage, user: User, settings: Any, endpoint: str
) -> None:
    job = submit(user, [upload(user, seed=1)])
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        use(settings, f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(OSError, match="bucket"):
            blobs.store(b"new", "text/plain")
        take_turn(user.pk, "cpu")
    item = Item.objects.get(job=job)
    assert item.state == State.PROCESSING  # its lease runs out, and it is tried again
    use(settings, endpoint)
    assert item.lease_token is not None
    claims.reclaim({item.pk: item.lease_token})
    take_turns(user)
    job.refresh_from_db()
    assert job.state == State.SUCCEEDED
    assert registry.lost_leases() == {}
