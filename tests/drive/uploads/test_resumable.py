"""Resumable uploads under bad luck: races, broken connections, killed servers, full disks, the sweep."""

import hashlib
import io
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import create_api_key
from drive.files import paths, services
from drive.files.paths import UploadPath
from drive.models import File, FileKind, FileState, Folder, OnConflict, Upload
from drive.uploads import create_file, expiry, part_files, resumable, tasks, work
from ipau.common import leases
from ipau.common.errors import Conflict, DomainError, Invalid, Unavailable
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db
PICTURE = picture_bytes()


def begin(owner: User, name: str = "sea.jpg", length: int = len(PICTURE), **how: Any) -> Upload:
    return resumable.begin_resumable(
        owner=owner, folder=None, place=paths.clean_path(name), length=length, **how
    )


def append(upload: Upload, offset: int, data: bytes) -> Upload:
    return resumable.append_bytes(upload=upload, offset=offset, source=io.BytesIO(data), size=len(data))


def reached(upload: Upload) -> int:
    upload.refresh_from_db()
    return part_files.received(upload)


class Broken(io.BytesIO):
    """A connection that breaks when its bytes are used up."""

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if not found:
            raise ConnectionResetError
        return found


# --- Connections that break, servers that die.


@pytest.mark.parametrize("source", [io.BytesIO, Broken])
def test_what_came_before_the_connection_broke_is_kept(user: User, source: type[io.BytesIO]) -> None:
    begun = begin(user)
    resumable.append_bytes(upload=begun, offset=0, source=source(PICTURE[:777]), size=len(PICTURE))
    assert reached(begun) == 777
    done = append(begun, 777, PICTURE[777:])
    assert done.file is not None
    assert done.file.blob_id == hashlib.sha256(PICTURE).hexdigest()


def test_a_killed_server_loses_little(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    class Deadly(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(size)
            if not found:
                raise Killed
            return found

    monkeypatch.setattr(resumable, "SAFE_BYTES", 1000)
    monkeypatch.setattr(resumable, "CHUNK", 300)
    begun = begin(user)
    with pytest.raises(Killed):
        resumable.append_bytes(upload=begun, offset=0, source=Deadly(PICTURE[:2900]), size=len(PICTURE))
    # Twice 1,200 were made safe; what came after was not, and is written again.
    assert reached(begun) == 2400
    assert append(begun, 2400, PICTURE[2400:]).file


def test_a_part_file_that_was_lost_is_sent_again(user: User) -> None:
    begun = begin(user)
    append(begun, 0, PICTURE[:500])
    part_files.remove(begun.pk)
    assert reached(begun) == 0
    with pytest.raises(resumable.WrongOffset):
        append(begun, 500, PICTURE[500:])
    assert append(begun, 0, PICTURE).file


def test_a_failure_at_the_end_is_tried_again_and_makes_one_file(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begin(user)

    def made_and_failed(made: File, *how: Any) -> File:
        assert File.objects.get() == made
        raise OSError("the storage has gone")

    monkeypatch.setattr(create_file, "_settle_conflict", made_and_failed)
    with pytest.raises(OSError, match="storage"):
        append(begun, 0, PICTURE)
    monkeypatch.undo()
    assert not File.objects.exists()
    assert reached(begun) == len(PICTURE) - 1
    append(begun, len(PICTURE) - 1, PICTURE[-1:])
    assert File.objects.get().name == "sea.jpg"


def test_a_full_disk_is_told_and_loses_nothing(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = begin(user)
    append(begun, 0, PICTURE[:500])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(Unavailable, match="try again later"):
        append(begun, 500, PICTURE[500:900])
    monkeypatch.undo()
    assert reached(begun) == 500
    assert append(begun, 500, PICTURE[500:]).file


# --- Two at once.


def in_threads(*calls: Callable[[], object]) -> list[object]:
    """Run all at once, each on a connection of its own; return what they returned or raised."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        try:
            together.wait(10)
            return call()
        except DomainError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.django_db(transaction=True)
def test_many_clients_on_one_upload_make_one_file() -> None:
    begun = begin(UserFactory())
    outcomes = in_threads(*[lambda: append(begun, 0, PICTURE)] * 8)
    assert len([o for o in outcomes if isinstance(o, Upload)]) == 1
    refused = [o for o in outcomes if not isinstance(o, Upload)]
    assert {type(error) for error in refused} <= {part_files.Busy, resumable.WrongOffset}
    assert File.objects.count() == 1


def test_while_one_writes_another_waits_outside(user: User) -> None:
    begun = begin(user)
    with part_files.writing(begun.pk), pytest.raises(part_files.Busy) as caught:
        append(begun, 0, PICTURE)
    assert caught.value.status == 423
    assert append(begun, 0, PICTURE).file


@pytest.mark.django_db(transaction=True)
def test_files_of_one_tree_share_its_folders() -> None:
    owner = UserFactory()
    begun = [begin(owner, f"a/b/c/{number}.jpg") for number in range(8)]
    outcomes = in_threads(*[lambda one=one: append(one, 0, PICTURE) for one in begun])
    assert all(isinstance(outcome, Upload) for outcome in outcomes)
    assert sorted(Folder.objects.values_list("name", flat=True)) == ["a", "b", "c"]
    assert File.objects.filter(folder__name="c").count() == 8


@pytest.mark.django_db(transaction=True)
def test_replacing_one_name_at_once_leaves_one_file() -> None:
    owner = UserFactory()
    kept = upload(owner, "sea.jpg")
    data = [picture_bytes(seed=seed) for seed in range(1, 5)]
    begun = [begin(owner, length=len(one), on_conflict=OnConflict.REPLACE) for one in data]
    in_threads(*[lambda u=u, d=d: append(u, 0, d) for u, d in zip(begun, data, strict=True)])
    assert File.objects.get().pk == kept.pk


def test_given_up_while_bytes_come(user: User) -> None:
    begun = begin(user)

    class Leaving(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            resumable.drop_upload(upload=begun)
            return super().read(size)

    with pytest.raises(DomainError) as caught:
        resumable.append_bytes(upload=begun, offset=0, source=Leaving(PICTURE), size=len(PICTURE))
    assert caught.value.status == 404
    assert not File.objects.exists()
    assert not part_files.part_path(begun.pk).exists()


def test_a_check_of_the_old_bytes_says_nothing_of_the_new_ones(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = upload(user, "sea.jpg")
    look = work._INSPECTORS[FileKind.PICTURE]

    def replaced_meanwhile(claimed: File) -> Any:
        made = look(claimed)
        data = picture_bytes("PNG", 100, 50)
        append(begin(user, length=len(data), on_conflict=OnConflict.REPLACE), 0, data)
        monkeypatch.undo()
        return made

    monkeypatch.setitem(work._INSPECTORS, FileKind.PICTURE, replaced_meanwhile)
    claimed = leases.claim_first(work._waiting(user.pk), lease=work.LEASE)
    assert claimed
    work._inspect(claimed)
    file.refresh_from_db()
    assert (file.state, file.width) == (FileState.UPLOADED, 100)
    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    assert (file.state, file.width) == (FileState.READY, 100)


# --- Over a real connection.


def test_a_dropped_connection_and_the_rest(transactional_db: None, live_server: Any) -> None:
    owner = UserFactory()
    key = create_api_key(user=owner, name="test").secret
    begun = begin(owner)
    address = urlsplit(live_server.url)
    head = (
        f"PATCH /v1/uploads/{begun.pk} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {key}\r\n"
        "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\nConnection: close\r\n"
    )
    host = (str(address.hostname), int(address.port or 0))
    with socket.create_connection(host) as first:
        lines = f"Upload-Offset: 0\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
        first.sendall((head + lines).encode() + PICTURE[:2000])
        # Meanwhile nobody else may write.
        path = part_files.part_path(begun.pk)
        ends = time.monotonic() + 10
        while not path.exists() and time.monotonic() < ends:
            time.sleep(0.01)
        time.sleep(0.2)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        sent = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
        kind = "application/offset+octet-stream"
        busy = client.generic("PATCH", f"/v1/uploads/{begun.pk}", PICTURE, kind, headers=sent)
        assert busy.status_code == 423
    ends = time.monotonic() + 10
    while reached(begun) < 2000 and time.monotonic() < ends:
        time.sleep(0.05)
    assert reached(begun) == 2000
    with socket.create_connection(host) as second:
        lines = f"Upload-Offset: 2000\r\nContent-Length: {len(PICTURE) - 2000}\r\n\r\n"
        second.sendall((head + lines).encode() + PICTURE[2000:])
        answer = b""
        while more := second.recv(65536):
            answer += more
    assert answer.startswith(b"HTTP/1.1 204"), answer
    file = File.objects.get()
    assert f"/v1/files/{file.pk}".encode() in answer
    assert file.blob_id == hashlib.sha256(PICTURE).hexdigest()


# --- Memory.


class Endless:
    """Bytes without end: a picture first, then zeros."""

    def __init__(self, head: bytes):
        self._head = head

    def read(self, size: int, /) -> bytes:
        found, self._head = self._head[:size], self._head[size:]
        return found + bytes(size - len(found))


@pytest.mark.parametrize("head", [PICTURE, b"no picture", b"\xff\xd8\xff broken"], ids=["good", "no", "bad"])
def test_memory_stays_flat(user: User, head: bytes) -> None:
    length = 200 * 1024 * 1024
    begun = begin(user, length=length)
    tracemalloc.start()
    try:
        resumable.append_bytes(upload=begun, offset=0, source=Endless(head), size=length)
        assert head is PICTURE
    except Invalid:
        assert head is not PICTURE
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 16 * 1024 * 1024
    assert not part_files.part_path(begun.pk).exists()


# --- The sweep.


def test_the_sweep_takes_what_is_over_and_what_is_nobodys(user: User) -> None:
    over, fresh = begin(user, "over.jpg"), begin(user, "fresh.jpg")
    for one in (over, fresh):
        append(one, 0, PICTURE[:100])
    Upload.objects.filter(pk=over.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    old = time.time() - 2 * expiry.GRACE.total_seconds()
    stray = part_files.part_path(over.pk).with_name("01890000-0000-7000-8000-000000000000")
    odd = stray.with_name("odd")
    new = stray.with_name("01890000-0000-7000-8000-000000000001")
    for path in (stray, odd, new):
        path.write_bytes(b"x")
    for path in (stray, odd, part_files.part_path(fresh.pk)):
        os.utime(path, (old, old))
    tasks.sweep()
    assert [part_files.part_path(one.pk).exists() for one in (over, fresh)] == [False, True]
    assert [path.exists() for path in (stray, odd, new)] == [False, False, True]
    assert Upload.objects.get().pk == fresh.pk
    new.unlink()
    assert append(fresh, 100, PICTURE[100:]).file


def test_bytes_that_come_give_more_time(user: User) -> None:
    begun = begin(user)
    Upload.objects.update(expires_at=timezone.now() + timedelta(minutes=1))
    append(begun, 0, PICTURE[:100])
    begun.refresh_from_db()
    assert begun.expires_at > timezone.now() + timedelta(days=2)


# --- Places.


def test_clashes_are_found_in_few_queries(user: User, django_assert_num_queries: Any) -> None:
    for path in ("a.jpg", "holiday/a.jpg", "holiday/day 1/b.jpg"):
        append(begin(user, path), 0, PICTURE)
    asked = ["a.jpg", "b.jpg", "holiday/a.jpg", "holiday/b.jpg", "holiday/day 1/b.jpg", "x/a.jpg", "../a.jpg"]
    with django_assert_num_queries(2):
        found = paths.find_clashes(owner=user, folder=None, paths=asked)
    assert found == ["a.jpg", "holiday/a.jpg", "holiday/day 1/b.jpg"]
    holiday = Folder.objects.get(name="holiday")
    assert paths.find_clashes(owner=user, folder=holiday, paths=["day 1/b.jpg", "b.jpg"]) == ["day 1/b.jpg"]


def test_folders_do_not_grow_too_deep(user: User) -> None:
    folder = None
    for number in range(services.MAX_DEPTH - 1):
        folder = services.create_folder(owner=user, parent=folder, name=str(number))
    how = {"owner": user, "folder": folder, "length": len(PICTURE)}
    append(resumable.begin_resumable(place=UploadPath(("in",), "a.jpg"), **how), 0, PICTURE)
    with pytest.raises(Invalid, match="40 levels deep"):
        append(resumable.begin_resumable(place=UploadPath(("in", "further"), "a.jpg"), **how), 0, PICTURE)
    assert not Folder.objects.filter(name="further").exists()


def test_a_key_is_one_persons(user: User, other_user: User) -> None:
    mine, theirs = begin(user, key="1"), begin(other_user, key="1")
    assert mine.pk != theirs.pk
    assert begin(user, key="1").pk == mine.pk
    with pytest.raises(Conflict):
        begin(user, "other.jpg", key="1")
