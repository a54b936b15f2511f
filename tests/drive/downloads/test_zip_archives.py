"""Archives: complete, safe to unpack anywhere, of known length, and never short without saying so."""

import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client

from accounts.models import User
from drive.downloads import zip_archives
from drive.downloads.zip_archives import LostBytesError, ZipEntry
from drive.files import services, trash
from drive.models import File, Folder
from tests.drive.factories import upload
from tests.pictures import picture_bytes


@pytest.fixture
def client(client_of: Callable[[User], Client], user: User) -> Client:
    return client_of(user)


def folder(owner: User, name: str, parent: Folder | None = None) -> Folder:
    return services.create_folder(owner=owner, parent=parent, name=name)


def unpacked(answer: Any) -> dict[str, bytes]:
    data = b"".join(answer.streaming_content)
    if "Content-Length" in answer:
        assert len(data) == int(answer["Content-Length"])
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        assert {i.compress_type for i in found.infolist()} == {zipfile.ZIP_STORED}
        return {name: found.read(name) for name in found.namelist()}


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_selection_comes_with_its_folders(client: Client, user: User, method: str) -> None:
    top = folder(user, "Été 2024")
    inner = folder(user, "day 1", top)
    folder(user, "empty", top)
    data = [picture_bytes(seed=seed) for seed in range(4)]
    upload(user, "a.jpg", folder=top, data=data[0])
    upload(user, "a.jpg", folder=inner, data=data[1])
    gone = upload(user, "gone.jpg", folder=inner, data=data[2])
    trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[gone.pk]))
    loose = upload(user, "loose.jpg", data=data[3])
    # The inner folder is chosen as well: what it holds still comes once.
    sent = {"folder": [str(top.pk), str(inner.pk)], "file": [str(loose.pk)]}
    answer = getattr(client, method)("/drive/download/", sent)
    assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == ("application/zip", "nosniff")
    assert answer["Content-Disposition"] == 'attachment; filename="Drive.zip"'
    assert unpacked(answer) == {
        "Été 2024/": b"",
        "Été 2024/day 1/": b"",
        "Été 2024/empty/": b"",
        "Été 2024/a.jpg": data[0],
        "Été 2024/day 1/a.jpg": data[1],
        "loose.jpg": data[3],
    }


@pytest.mark.django_db
def test_a_single_file_comes_as_it_is(client: Client, user: User) -> None:
    file = upload(user)
    answer = client.post("/drive/download/", {"file": [str(file.pk)]})
    assert answer["Location"] == f"/drive/file/{file.pk}/content/?download"


@pytest.mark.django_db
def test_other_peoples_things_are_not_in_it(client: Client, user: User, other_user: User) -> None:
    mine, theirs = upload(user), upload(other_user)
    assert client.get("/drive/download/", {"file": [str(mine.pk), str(theirs.pk)]}).status_code == 404
    assert client.get("/drive/download/", {"folder": [str(folder(other_user, "x").pk)]}).status_code == 404
    assert client.get("/drive/download/").status_code == 422


@pytest.mark.django_db
def test_names_are_safe_and_unique(client: Client, user: User) -> None:
    here = folder(user, "here")
    names = [
        "a:b.jpg",
        "a?b.jpg",
        "A*B.jpg",
        "CON.jpg",
        "dots...",
        "..hidden.jpg",
        "same",
        "x" * 251 + ".jpg",
    ]
    first = upload(user, "first.jpg", folder=here)
    rows = [
        File(
            owner=user,
            folder=here,
            name=name,
            blob_id=first.blob_id,
            content_type="image/jpeg",
            size=first.size,
        )
        for name in names
    ]
    File.objects.bulk_create(rows)
    folder(user, "same", here)
    found = list(unpacked(client.get("/drive/download/", {"folder": [str(here.pk)]})))
    inside = [name.removeprefix("here/") for name in found if name != "here/"]
    assert len({name.casefold().rstrip("/") for name in inside}) == len(names) + 2
    for name in inside:
        assert not set('<>:"\\|?*') & set(name)
        assert name.count("/") == name.endswith("/")
        assert len(name.encode()) <= 256
    assert {"same/", "same (2)", "_CON.jpg", "dots", "..hidden.jpg"} <= set(inside)


@pytest.mark.django_db
def test_missing_bytes_break_it_off(client: Client, user: User) -> None:
    here = folder(user, "here")
    files = [upload(user, f"{seed}.jpg", folder=here, seed=seed) for seed in range(3)]
    default_storage.delete(files[1].blob.path)
    answer = client.get("/drive/download/", {"folder": [str(here.pk)]})
    received: list[bytes] = []
    with pytest.raises(LostBytesError):
        received.extend(answer.streaming_content)
    assert sum(map(len, received)) < int(answer["Content-Length"])


@pytest.mark.django_db
def test_the_number_of_queries_does_not_grow(
    client: Client, user: User, django_assert_num_queries: Any
) -> None:
    few, many = folder(user, "few"), folder(user, "many")
    upload(user, folder=few)
    for number in range(12):
        upload(user, folder=folder(user, str(number), many))
    for here in (few, many):
        with django_assert_num_queries(6):
            unpacked(client.get("/drive/download/", {"folder": [str(here.pk)]}))


def test_memory_stays_flat_and_large_archives_work() -> None:
    """Five gigabytes, which no archive of the old kind could hold, pass through in a few megabytes."""
    piece = bytes(zip_archives.CHUNK)
    size = 5 * 2**30 // len(piece) * len(piece)

    def zeros(member: ZipEntry) -> Iterator[bytes]:
        for _ in range(member.size // len(piece)):
            yield piece

    made = zip_archives.archive([ZipEntry("a.bin", "a", size), ZipEntry("b.bin", "b", len(piece))], zeros)
    tracemalloc.start()
    length = sum(len(part) for part in made)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert length == len(made) > size
    assert peak < 8 * 2**20


def test_no_more_members_than_memory_holds(monkeypatch: pytest.MonkeyPatch, db: None, user: User) -> None:
    monkeypatch.setattr(zip_archives, "MOST_MEMBERS", 2)
    files = [upload(user, seed=seed) for seed in range(3)]
    chosen = services.select(owner=user, file_ids=[file.pk for file in files])
    with pytest.raises(services.Invalid, match="up to 2 files and folders"):
        zip_archives.members_of(owner=user, chosen=chosen)


def test_equal_names_are_told_apart_in_linear_time() -> None:
    names = zip_archives._FolderNames()
    made = [names.take("a?.jpg" if n % 2 else "a*.jpg") for n in range(20_000)]
    assert len({name.casefold() for name in made}) == len(made)
    assert made[1] == "a_ (2).jpg"
