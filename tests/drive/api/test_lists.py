"""What the API's lists of files and folders can be asked for, and what they cost."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from drive.files import trash, update
from drive.files.services import create_folder, select
from drive.models import File, FileKind, Folder
from tests.drive.factories import upload

pytestmark = pytest.mark.django_db


class Lists:
    """A client and what it finds."""

    def __init__(self, client: APIClient):
        self.client = client

    def names(self, path: str) -> list[str]:
        """Return the names in all pages of a list, two rows a page."""
        page = self.client.get(f"/v1/{path}{'&' if '?' in path else '?'}limit=2").json()
        found = [row["name"] for row in page["results"]]
        while page["next"]:
            page = self.client.get(page["next"]).json()
            found += [row["name"] for row in page["results"]]
        return found


@pytest.fixture
def lists(user: User, api: Callable[..., APIClient]) -> Lists:
    return Lists(api(user))


def test_files_by_what_they_are(lists: Lists, user: User) -> None:
    home = create_folder(owner=user, parent=None, name="Home")
    upload(user, "Sea.jpg", folder=home)
    upload(user, "seal.jpg", seed=1)
    dog = upload(user, "dog.jpg", seed=2)
    text = upload(user, "notes.jpg", seed=3)
    File.objects.filter(pk=text.pk).update(kind=FileKind.TEXT, name="notes.txt")
    update.star_files(owner=user, chosen=select(owner=user, file_ids=[dog.pk]), on=True)
    assert lists.names("files?q=SEA") == ["seal.jpg", "Sea.jpg"]
    assert lists.names(f"files?q=sea&folder={home.pk}") == ["Sea.jpg"]
    assert lists.names("files?q=100%25") == []
    assert lists.names("files?kind=text") == ["notes.txt"]
    assert lists.names("files?kind=picture&folder=top") == ["dog.jpg", "seal.jpg"]
    assert lists.names("files?starred=true") == ["dog.jpg"]
    assert lists.names("files?starred=false") == ["notes.txt", "seal.jpg", "Sea.jpg"]
    # An empty field asks nothing.
    assert len(lists.names("files?q=&kind=&starred=&folder=&order=")) == 4


def test_orders(lists: Lists, user: User) -> None:
    for number, name in enumerate(["b.jpg", "C.jpg", "a.jpg", "D.jpg", "e.jpg"]):
        file = upload(user, name, seed=number)
        File.objects.filter(pk=file.pk).update(size=[3, 1, 3, 2, 5][number])
        create_folder(owner=user, parent=None, name=name)
    for place in ("", "&folder=top"):
        assert lists.names(f"files?order=newest{place}") == ["e.jpg", "D.jpg", "a.jpg", "C.jpg", "b.jpg"]
        assert lists.names(f"files?order=name{place}") == ["a.jpg", "b.jpg", "C.jpg", "D.jpg", "e.jpg"]
        assert lists.names(f"files?order=size{place}") == ["e.jpg", "a.jpg", "b.jpg", "D.jpg", "C.jpg"]
    for place in ("", "&parent=top"):
        assert lists.names(f"folders?order=name{place}") == ["a.jpg", "b.jpg", "C.jpg", "D.jpg", "e.jpg"]
        assert lists.names(f"folders?order=newest{place}") == ["e.jpg", "D.jpg", "a.jpg", "C.jpg", "b.jpg"]
    assert lists.names("folders?q=D.") == ["D.jpg"]
    # The way back from the last page, and a cursor of another order.
    page = lists.client.get("/v1/files?order=size&limit=3").json()
    last = lists.client.get(page["next"]).json()
    assert lists.client.get(last["previous"]).json()["results"] == page["results"]
    cursor = lists.client.get("/v1/files?order=name&limit=3").json()["next"].split("cursor=")[1]
    assert lists.client.get(f"/v1/files?order=size&cursor={cursor}").status_code == 422


def test_the_trash_is_listed_latest_first(lists: Lists, user: User) -> None:
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(4)]
    home = create_folder(owner=user, parent=None, name="Home")
    upload(user, "inside.jpg", folder=home)
    for file in (files[2], files[0], files[3]):
        trash.trash(owner=user, chosen=select(owner=user, file_ids=[file.pk]))
    trash.trash(owner=user, chosen=select(owner=user, folder_ids=[home.pk]))
    assert lists.names("files") == ["1.jpg"]
    assert lists.names("files?trashed=true") == ["3.jpg", "0.jpg", "2.jpg"]
    assert lists.names("files?trashed=true&order=name") == ["0.jpg", "2.jpg", "3.jpg"]
    assert lists.names("files?trashed=true&q=3") == ["3.jpg"]
    assert lists.names("folders?trashed=true") == ["Home"]
    assert lists.names("folders") == []


@pytest.mark.parametrize(
    "query",
    [
        "kind=nonsense",
        "starred=perhaps",
        "trashed=2x",
        "order=random",
        "order=-id",
        f"q={'x' * 256}",
        "q=%00",
    ],
)
def test_questions_that_cannot_be_answered(lists: Lists, query: str) -> None:
    answer = lists.client.get(f"/v1/files?{query}")
    assert answer.status_code == 422
    assert query.split("=")[0] in answer.json()["errors"]


def test_what_a_list_costs_does_not_depend_on_its_length(lists: Lists, user: User) -> None:
    home = create_folder(owner=user, parent=None, name="Home")
    deep = home
    for number in range(5):
        deep = create_folder(owner=user, parent=deep, name=str(number))
        upload(user, f"{number}.jpg", folder=home, seed=number)
    client = lists.client
    client.get("/v1/account")
    for path, most in {
        # The key, the folder that is named, the page.
        "files?order=name": 2,
        "files?trashed=true": 2,
        f"files?folder={home.pk}&order=size&q=jpg&starred=false&kind=picture": 3,
        "folders?order=name": 2,
        f"folders?parent={home.pk}&q=0": 3,
        # The key, the folder, the way to it in two.
        f"folders/{deep.pk}": 4,
        "drive": 2,
    }.items():
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/v1/{path}").status_code == 200
        assert len(queries) == most, (path, [query["sql"] for query in queries])
    assert Folder.objects.filter(owner=user).count() == 6
