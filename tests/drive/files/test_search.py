"""Finding things again: by name, type, date and star; the tree beside the listing; taking a move back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from drive.files import listing, services, trash
from drive.models import File, Folder
from tests.drive.factories import upload

HTMX = {"HX-Request": "true"}


@pytest.fixture
def client(client_of: Callable[[User], Client], user: User) -> Client:
    return client_of(user)


def make(user: User, names: list[str], folder: Folder | None = None, **fields: Any) -> list[File]:
    """Put files of these names into a folder, all with the same bytes."""
    first = upload(user, names[0], folder=folder)
    File.objects.filter(pk=first.pk).update(state="ready", **fields)
    fields = {"kind": "picture", "content_type": "image/jpeg", "size": 1, **fields}
    return [
        first,
        *File.objects.bulk_create(
            File(owner=user, folder=folder, name=n, blob_id=first.blob_id, state="ready", **fields)
            for n in names[1:]
        ),
    ]


def found(client: Client, address: str = "/drive/search/", **query: str) -> list[str]:
    page = client.get(address, query)
    assert page.status_code == 200
    return sorted(file.name for file in page.context["files"].rows)


def test_names_are_found_anywhere_or_below_one_folder(client: Client, user: User) -> None:
    outer = services.create_folder(owner=user, parent=None, name="Cats outer")
    inner = services.create_folder(owner=user, parent=outer, name="inner cats")
    make(user, ["CAT top.jpg", "dog.jpg"])
    make(user, ["cat below.jpg"], inner)
    assert found(client, q="cat") == ["CAT top.jpg", "cat below.jpg"]
    assert found(client, **{"q": "cat", "in": str(outer.pk)}) == ["cat below.jpg"]
    page = client.get("/drive/search/", {"q": "CATS"})
    assert {f.name for f in page.context["folders"].rows} == {"Cats outer", "inner cats"}
    page = client.get("/drive/search/", {"q": "cats", "in": str(outer.pk)})
    assert [f.name for f in page.context["folders"].rows] == ["inner cats"]


@pytest.mark.parametrize("text", ["%", "_", "\\", "'", "\0", "x" * 300])
def test_signs_that_mean_something_to_a_database_are_text(client: Client, user: User, text: str) -> None:
    make(user, ["a.jpg"])
    assert found(client, q=text) in ([], ["a.jpg"] if text in ("\0", "x" * 300) else [])


def test_types_and_days_narrow_it_down(client: Client, user: User) -> None:
    make(user, ["a.jpg"])
    make(user, ["b.txt"], kind="text")
    old = make(user, ["old.jpg"])[0]
    File.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=20))
    assert found(client, kind="text") == ["b.txt"]
    assert found(client, when="week") == ["a.jpg", "b.txt"]
    assert found(client, when="month", kind="picture") == ["a.jpg", "old.jpg"]
    day = (timezone.localdate() - timedelta(days=20)).isoformat()
    assert found(client, when="range", first=day, last=day) == ["old.jpg"]
    assert found(client, when="range", first="0001-01-01", last="9999-12-31") == ["a.jpg", "b.txt", "old.jpg"]
    page = client.get("/drive/search/", {"when": "range", "first": "2020-01-02", "last": "2020-01-01"})
    assert "The end date is before the start date." in page.content.decode()


def test_others_and_the_trash_are_not_found(client: Client, user: User, other_user: User) -> None:
    upload(other_user, "cat.jpg")
    gone = upload(user, "cat.jpg")
    trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[gone.pk]))
    assert found(client, q="cat") == []
    theirs = services.create_folder(owner=other_user, parent=None, name="theirs")
    assert client.get("/drive/search/", {"in": str(theirs.pk)}).status_code == 404
    assert client.get("/drive/tree/", {"parent": str(theirs.pk)}).status_code == 404
    assert client.get("/drive/tree/", {"open": str(theirs.pk)}).status_code == 404


@pytest.mark.parametrize("sort", ["newest", "name", "size"])
def test_paging_keeps_the_search_and_its_queries(
    client: Client, user: User, sort: str, django_assert_max_num_queries: Any
) -> None:
    folder = services.create_folder(owner=user, parent=None, name="many")
    make(user, [f"cat {n:03}.jpg" for n in range(70)], folder)
    make(user, ["dog.jpg"], folder)
    query = {"q": "cat", "sort": sort, "in": str(folder.pk)}
    client.get("/drive/", {"sort": sort})
    with django_assert_max_num_queries(8):
        page = client.get("/drive/search/", query)
    seen = [file.name for file in page.context["files"].rows]
    assert len(seen) == listing.TILES
    cursor = page.context["files"].next
    assert f"q=cat&amp;sort={sort}" in page.content.decode()
    with django_assert_max_num_queries(8):
        rest = client.get(
            "/drive/search/", {**query, "cursor": cursor}, headers={**HTMX, "HX-Target": "more-files"}
        )
    assert "<html" not in rest.content.decode()
    seen += [file.name for file in rest.context["files"].rows]
    assert sorted(seen) == [f"cat {n:03}.jpg" for n in range(70)]


def test_stars_come_and_go(client: Client, user: User) -> None:
    a, b = make(user, ["a.jpg", "b.jpg"])
    star = reverse("drive:star")
    assert "No starred files yet" in client.get("/drive/starred/").content.decode()
    answer = client.post(f"{star}?on=1", {"file": [str(a.pk)]}, headers=HTMX)
    assert 'aria-pressed="true"' in answer.content.decode()
    assert "drive-starred" in answer["HX-Trigger"]
    assert found(client, "/drive/starred/") == ["a.jpg"]
    # Without saying which: all get one, and only when all have one they lose it.
    client.post(star, {"file": [str(a.pk), str(b.pk)]})
    assert found(client, "/drive/starred/") == ["a.jpg", "b.jpg"]
    assert found(client, "/drive/starred/", q="b") == ["b.jpg"]
    client.post(star, {"file": [str(a.pk), str(b.pk)]})
    assert found(client, "/drive/starred/") == []
    folder = services.create_folder(owner=user, parent=None, name="f")
    assert client.post(star, {"folder": [str(folder.pk)]}, headers=HTMX).status_code == 422


def test_the_tree_unfolds_the_way_to_a_folder(
    client: Client, user: User, django_assert_max_num_queries: Any
) -> None:
    outer = services.create_folder(owner=user, parent=None, name="outer")
    inner = services.create_folder(owner=user, parent=outer, name="inner")
    services.create_folder(owner=user, parent=inner, name="deep")
    tree = client.get("/drive/tree/").content.decode()
    assert "outer" in tree
    assert ">inner<" not in tree
    with django_assert_max_num_queries(6):
        tree = client.get("/drive/tree/", {"open": str(inner.pk)}).content.decode()
    assert all(f">{name}<" in tree for name in ("outer", "inner", "deep"))
    assert 'aria-current="page"' in tree
    assert ">deep<" in client.get("/drive/tree/", {"parent": str(inner.pk)}).content.decode()


def test_a_move_is_taken_back_to_each_home(client: Client, user: User) -> None:
    one, two, target = (services.create_folder(owner=user, parent=None, name=n) for n in ("1", "2", "3"))
    a, b = make(user, ["a.jpg"], one)[0], make(user, ["b.jpg"], two)[0]
    chosen = {"file": [str(a.pk), str(b.pk)], "folder": [str(two.pk)]}
    body = {**chosen, "file": [str(a.pk)], "destination": str(target.pk)}
    page = client.post(reverse("drive:move"), body, follow=True).content.decode()
    undo = page.split('action="/drive/move/undo/')[1].split('"')[0]
    a.refresh_from_db()
    assert a.folder == target
    assert client.post(f"/drive/move/undo/{undo}").status_code == 302
    a.refresh_from_db()
    two.refresh_from_db()
    assert (a.folder, two.parent) == (one, None)


def test_the_keys_are_listed(client: Client) -> None:
    assert "Clear the selection" in client.get("/drive/keys/").content.decode()
    assert "<html" not in client.get("/drive/keys/", headers=HTMX).content.decode()
