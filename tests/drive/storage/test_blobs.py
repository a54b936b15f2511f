"""Content-addressed bytes."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from accounts.models import User
from drive.models import Blob, File, Thumbnail
from drive.storage import blobs, sweep
from drive.uploads import work
from tests.drive.factories import upload


def age(*digests: str) -> None:
    Blob.objects.filter(pk__in=digests).update(touched_at=timezone.now() - timedelta(hours=2))


def test_the_same_bytes_are_kept_once(user: User, other_user: User) -> None:
    mine, theirs = upload(user), upload(other_user, "other name.jpg")
    assert mine.blob_id == theirs.blob_id
    assert Blob.objects.count() == 1


def test_bytes_come_back_as_they_went_in(db: None) -> None:
    data = bytes(range(256)) * 9000
    stored = blobs.store_file(io.BytesIO(data), "image/png")
    assert stored == blobs.store(data, "image/png")
    assert blobs.read(stored.sha256) == data
    assert stored.size == len(data)


def test_the_sweep_takes_old_bytes_that_nobody_refers_to(user: User) -> None:
    kept = upload(user, "kept.jpg")
    work.inspect_uploads(user.pk)
    thumbnail = Thumbnail.objects.get().blob_id
    dropped, fresh = (blobs.store(data, "image/png") for data in (b"dropped", b"fresh"))
    blobs.register([dropped, fresh])
    age(kept.blob_id, thumbnail, dropped.sha256)
    assert sweep.sweep_orphans() == 1
    assert set(Blob.objects.values_list("pk", flat=True)) == {kept.blob_id, thumbnail, fresh.sha256}
    assert not default_storage.exists(dropped.path)
    assert default_storage.exists(fresh.path)
    assert default_storage.exists(kept.blob.path)


def test_the_sweep_takes_a_picture_and_then_its_thumbnail(user: User) -> None:
    path = upload(user).blob.path
    work.inspect_uploads(user.pk)
    File.objects.all().delete()
    age(*Blob.objects.values_list("pk", flat=True))
    assert sweep.sweep_orphans() == 1
    assert sweep.sweep_orphans() == 1
    assert not Blob.objects.exists()
    assert not default_storage.exists(path)


def test_bytes_that_are_stored_again_are_young_again(user: User) -> None:
    stored = blobs.store(b"again", "image/png")
    blobs.register([stored])
    age(stored.sha256)
    blobs.store(b"again", "image/png")
    assert sweep.sweep_orphans() == 0


def test_bytes_without_a_row_are_written_again(user: User) -> None:
    stored = blobs.store(b"no row", "image/png")
    default_storage.delete(stored.path)
    blobs.register([stored])
    assert blobs.store(b"no row", "image/png") == stored
    assert blobs.read(stored.sha256) == b"no row"


@pytest.mark.django_db(transaction=True)
def test_two_uploads_of_the_same_bytes_at_once(user: User, other_user: User) -> None:
    def one(number: int) -> File:
        try:
            return upload(user if number % 2 else other_user, "same.jpg")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(one, range(12)))
    assert len({f.blob_id for f in files}) == 1
    assert Blob.objects.count() == 1
    assert len(set(File.objects.filter(owner=user).values_list("name", flat=True))) == 6


def test_bytes_that_never_got_a_row_are_swept_when_they_are_old(db: None) -> None:
    old, fresh = blobs.store(b"old stray", "image/png"), blobs.store(b"fresh stray", "image/png")
    long_ago = (timezone.now() - timedelta(hours=2)).timestamp()
    os.utime(default_storage.path(old.path), (long_ago, long_ago))
    for stored in (old, fresh):
        prefix = stored.sha256[:2]
        sweep.sweep_storage(now=sweep.SWEEP_SECONDS * int(prefix, 16))
    assert not default_storage.exists(old.path)
    assert default_storage.exists(fresh.path)
    assert not Blob.objects.exists()
