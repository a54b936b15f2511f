"""What the drive keeps of its own size: correct for all writers of files, and never a bottleneck."""

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import User
from drive.files import paths, quota, services, trash
from drive.files import tasks as files_tasks
from drive.models import Blob, DriveUsage, File, Folder, OnConflict
from drive.storage import blobs
from drive.uploads import resumable, work
from processing.models import Job, Output
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.pictures import picture_bytes
from tests.processing import factories


def rows(owner: User, number: int, *, size: int = 10, folder: Folder | None = None) -> list[File]:
    """Return files that are not in the database yet, of bytes that nobody has."""
    blob, _ = Blob.objects.get_or_create(
        pk="f" * 64, defaults={"size": size, "content_type": "image/jpeg", "touched_at": timezone.now()}
    )
    return [
        File(owner=owner, folder=folder, name=f"{size}-{n}.jpg", blob=blob, size=size) for n in range(number)
    ]


def kept(owner: User) -> tuple[int, int]:
    row = DriveUsage.objects.get(pk=owner.pk)
    return row.used_bytes, row.files


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


@pytest.mark.django_db
def test_every_way_to_write_files_is_counted(user: User, other_user: User) -> None:
    file = upload(user)
    assert kept(user) == (file.size, 1)
    File.objects.bulk_create(rows(user, 3) + rows(other_user, 2, size=7))
    assert kept(user) == (file.size + 30, 4)
    assert kept(other_user) == (14, 2)
    sql("UPDATE drive_file SET size = 100 WHERE owner_id = %s AND size = 10", user.pk)
    assert kept(user) == (file.size + 300, 4)
    sql("UPDATE drive_file SET owner_id = %s, name = 'a' || id WHERE size = 100", other_user.pk)
    assert (kept(user), kept(other_user)) == ((file.size, 1), (314, 5))
    File.objects.filter(size=100).update(state="ready", trashed_at=timezone.now())
    sql("DELETE FROM drive_file WHERE size = 100 OR owner_id = %s", user.pk)
    assert (kept(user), kept(other_user)) == ((0, 0), (14, 2))
    assert quota.verify_usage() == 0


@pytest.mark.django_db
def test_what_is_taken_back_was_never_counted(user: User) -> None:
    upload(user, "a.jpg")
    before = kept(user)
    with transaction.atomic():
        File.objects.bulk_create(rows(user, 3))
        assert kept(user) != before
        transaction.set_rollback(True)
    assert kept(user) == before


@pytest.mark.django_db
def test_folders_and_people_go_with_what_they_had(user: User, other_user: User) -> None:
    folder = services.create_folder(owner=user, parent=None, name="holiday")
    File.objects.bulk_create([*rows(user, 3, folder=folder), *rows(user, 1, size=5)])
    upload(other_user)
    folder.delete()
    assert kept(user) == (5, 1)
    user.delete()
    assert list(DriveUsage.objects.values_list("owner", flat=True)) == [other_user.pk]
    assert quota.verify_usage() == 0


@pytest.mark.django_db
def test_it_is_never_negative(user: User) -> None:
    with pytest.raises(IntegrityError, match="drive_usage_not_negative"):
        DriveUsage.objects.create(owner=user, used_bytes=-1)


@pytest.mark.django_db
def test_the_sweep_sets_right_and_logs_what_is_wrong(
    user: User, other_user: User, caplog: pytest.LogCaptureFixture
) -> None:
    file = upload(user)
    upload(other_user)
    right = kept(other_user)
    DriveUsage.objects.filter(pk=user.pk).update(used_bytes=9, files=9)
    DriveUsage.objects.filter(pk=other_user.pk).delete()
    files_tasks.verify_usage()
    assert kept(user) == (file.size, 1)
    assert kept(other_user) == right
    assert f"drive {user.pk}: recorded 9 bytes in 9 files, counted {file.size} bytes in 1" in caplog.text
    assert quota.verify_usage() == 0


@pytest.mark.django_db
def test_room_is_known_in_one_query(user: User, django_assert_num_queries: Callable[..., Any]) -> None:
    upload(user)
    with django_assert_num_queries(1):
        assert quota.usage_of(user).used > 0
    with django_assert_num_queries(1):
        quota.check_room(owner=user, size=1)
    with transaction.atomic(), django_assert_num_queries(1):
        quota.claim_room(owner=user, size=1)


@pytest.fixture
def no_deadlocks(transactional_db: None) -> Iterator[None]:
    """PostgreSQL had to end no deadlock while the test ran, even if the request was retried."""
    before = deadlocks()
    yield
    assert deadlocks() == before


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


@pytest.mark.slow("works on one drive from several threads")
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("no_deadlocks")
def test_jobs_uploads_and_the_trash_at_once_neither_wait_for_ever_nor_miscount() -> None:
    owner = UserFactory()
    pictures = [upload(owner, f"{n}.jpg", seed=n) for n in range(24)]
    work.inspect_uploads(owner.pk)
    folder = services.create_folder(owner=owner, parent=None, name="results")
    first = submit(owner, pictures[:1], folder)
    factories.take_turns(owner)
    same = Output.objects.select_related("file").get(item__job=first).file
    assert same is not None
    result = blobs.read(same.blob_id)
    for some in (pictures[:12], pictures[12:], pictures[6:18]):
        submit(owner, some, folder)
    done = threading.Event()

    def run_jobs() -> None:
        factories.take_turns(owner)
        done.set()

    def send_results_again() -> None:
        """Into the folder of the jobs, with bytes that these write too."""
        while not done.is_set():
            upload(owner, same.name, folder=folder, data=result)

    def replace() -> None:
        for seed in range(1000):
            if done.is_set():
                return
            data = picture_bytes(seed=seed)
            begun = resumable.begin_resumable(
                owner=owner, folder=folder, place=paths.clean_path("one.jpg"), length=len(data),
                on_conflict=OnConflict.REPLACE,
            )  # fmt: skip
            resumable.append_bytes(upload=begun, offset=0, source=io.BytesIO(data), size=len(data))

    def throw_away() -> None:
        for picture in pictures:
            trash.trash(owner=owner, chosen=services.select(owner=owner, file_ids=[picture.pk]))
            trash.empty_trash(owner=owner)

    at_once(run_jobs, run_jobs, send_results_again, replace, throw_away)
    assert quota.verify_usage() == 0
    assert File.objects.filter(folder=folder, blob=same.blob_id).count() >= 3
    assert File.objects.filter(folder=folder, name="one.jpg").count() == 1
    assert not File.objects.filter(pk__in=[p.pk for p in pictures]).exists()


def submit(owner: User, pictures: list[File], folder: Folder) -> Job:
    job = factories.submit(owner, pictures)
    Job.objects.filter(pk=job.pk).update(output_folder=folder)
    return job


def at_once(*calls: Callable[[], None]) -> None:
    """Run all on connections of their own; raise what one of them raises."""

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(run, call) for call in calls]:
            future.result(120)
