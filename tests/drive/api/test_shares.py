"""Links over the API, tried out by visitors."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from drive.files import trash
from drive.files.services import create_folder, select
from drive.models import CreationKey, Share
from drive.shares import services as shares
from drive.uploads import work
from ipau.common.idempotency import digest_of
from tests.drive.factories import upload

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(user: User, api: Callable[..., APIClient]) -> APIClient:
    return api(user)


def share(client: APIClient, *, key: str = "", **body: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/shares", body, format="json", headers=headers)


def visit(told: dict[str, Any], visitor: Client | None = None) -> Any:
    return (visitor or Client()).get(urlsplit(told["url"]).path)


def test_a_folder_is_shared_and_visited(client: APIClient, user: User) -> None:
    home = create_folder(owner=user, parent=None, name="Holiday")
    upload(user, "sea.jpg", folder=home)
    work.inspect_uploads(user.pk)
    answer = share(client, folder=str(home.pk))
    assert answer.status_code == 201
    told = answer.json()
    assert (told["folder"], told["file"], told["name"]) == (str(home.pk), None, "Holiday")
    assert (told["access"], told["has_password"], told["works"]) == ("download", False, True)
    ends = datetime.fromisoformat(told["expires_at"]) - timezone.now()
    assert timedelta(days=29) < ends <= timedelta(days=30)
    assert "sea.jpg" in visit(told).content.decode()
    again = client.get(told["urls"]["get"]).json()
    assert (again["visits"], again["last_visited_at"] is None) == (1, False)
    assert {**again, "visits": 0, "last_visited_at": None} == told
    # The address is the one that the owner's own page shows.
    assert told["url"].startswith("http://testserver/s/")

    assert client.delete(told["urls"]["get"]).status_code == 204
    assert visit(told).status_code == 404
    assert client.delete(told["urls"]["get"]).status_code == 404
    assert client.get(told["urls"]["get"]).status_code == 404
    assert client.get("/v1/shares").json()["results"] == []
    assert client.get(f"/v1/folders/{home.pk}").status_code == 200


def test_terms_are_kept_and_changed(client: APIClient, user: User) -> None:
    file = upload(user)
    work.inspect_uploads(user.pk)
    told = share(client, file=str(file.pk), password="open sesame", access="view", expires_at=None).json()
    assert (told["access"], told["has_password"], told["expires_at"]) == ("view", True, None)
    assert "open sesame" not in str(told)
    path, visitor = told["urls"]["get"], Client()
    assert "password" in visit(told, visitor).content.decode()
    visitor.post(urlsplit(told["url"]).path, {"password": "open sesame"})
    assert file.name in visit(told, visitor).content.decode()

    def change(**changes: Any) -> Any:
        return client.patch(path, changes, format="json")

    # Another password ends what the first one opened; what is not sent stays.
    assert change(password="other").json()["has_password"]
    assert file.name not in visit(told, visitor).content.decode()
    tomorrow = timezone.now() + timedelta(days=1)
    changed = change(expires_at=tomorrow.isoformat(), access="download").json()
    assert datetime.fromisoformat(changed["expires_at"]) == tomorrow
    assert (changed["access"], changed["has_password"]) == ("download", True)
    for nothing in ("", None):
        assert change(password="again").json()["has_password"]
        assert not change(password=nothing).json()["has_password"]
    assert file.name in visit(told).content.decode()
    assert change(expires_at=None).json()["expires_at"] is None
    assert change().json()["access"] == "download"


def test_a_link_has_a_label_that_visitors_do_not_see(client: APIClient, user: User) -> None:
    file = upload(user)
    told = share(client, file=str(file.pk), label="For Ada").json()
    assert told["label"] == "For Ada"
    assert "For Ada" not in visit(told).content.decode()
    path = told["urls"]["get"]
    assert client.patch(path, {"access": "view"}, format="json").json()["label"] == "For Ada"
    assert client.patch(path, {"label": ""}, format="json").json()["label"] == ""


def test_a_repeated_request_makes_one_link(client: APIClient, user: User) -> None:
    file = upload(user)
    body = {"file": str(file.pk), "password": "open sesame", "label": "a"}
    first = share(client, key="one", **body)
    assert share(client, key="one", **body).json() == first.json()
    assert Share.objects.count() == 1
    # Other terms, another password among them, or another kind of thing under this key are no repeat.
    for other in ({"password": "x"}, {"password": ""}, {"label": "b"}, {"access": "view"}):
        assert share(client, key="one", **{**body, **other}).status_code == 409
    as_folder = client.post("/v1/folders", {"name": "a"}, format="json", headers={"Idempotency-Key": "one"})
    assert as_folder.status_code == 409
    # What is kept does not help to guess the password.
    row = CreationKey.objects.get()
    known = {"file_id": file.pk, "folder_id": None}
    for terms in ({"password": "open sesame", "label": "a"}, {"label": "a"}):
        assert row.request_digest != digest_of("share", known, terms)
    # After the link has ended, its key still names it.
    client.delete(first.json()["urls"]["get"])
    again = share(client, key="one", **body)
    assert (again.status_code, again.json()["works"]) == (201, False)
    assert share(client, key="two", file=str(file.pk)).status_code == 201


@pytest.mark.parametrize("named", [(), ("file", "folder"), ("file", "share"), ("file", "folder", "share")])
def test_a_key_names_one_thing(user: User, named: tuple[str, ...]) -> None:
    file = upload(user)
    known = {
        "file": file,
        "folder": create_folder(owner=user, parent=None, name="Home"),
        "share": shares.create_share(owner=user, file_id=file.pk),
    }
    with pytest.raises(IntegrityError), transaction.atomic():
        CreationKey.objects.create(
            owner=user, key="k", request_digest="", **{name: known[name] for name in named}
        )


def test_links_that_do_not_work_are_listed_as_such(client: APIClient, user: User) -> None:
    file, home = upload(user), create_folder(owner=user, parent=None, name="Home")
    kinds = [{"file": str(file.pk)}, {"file": str(file.pk)}, {"folder": str(home.pk)}]
    expired, fine, trashed = (share(client, **kind).json() for kind in kinds)
    Share.objects.filter(pk=expired["id"]).update(expires_at=timezone.now() - timedelta(seconds=1))
    trash.trash(owner=user, chosen=select(owner=user, folder_ids=[home.pk]))
    rows = client.get("/v1/shares").json()["results"]
    assert [row["id"] for row in rows] == [trashed["id"], fine["id"], expired["id"]]
    assert [row["works"] for row in rows] == [False, True, False]
    assert [visit(row).status_code for row in rows] == [404, 200, 404]
    by_file = client.get(f"/v1/shares?file={file.pk}").json()["results"]
    assert [row["id"] for row in by_file] == [fine["id"], expired["id"]]
    assert [r["id"] for r in client.get(f"/v1/shares?folder={home.pk}").json()["results"]] == [trashed["id"]]
    assert client.get("/v1/shares?file=x").status_code == 422
    # What lies in the trash cannot be shared.
    assert share(client, folder=str(home.pk)).status_code == 404


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"password": "x" * 201}, "password"),
        ({"access": "edit"}, "access"),
        ({"label": "x" * 101}, "label"),
        ({"token": "mine"}, "token"),
    ],
)
def test_terms_that_cannot_be(client: APIClient, user: User, terms: dict[str, Any], field: str) -> None:
    file = upload(user)
    made = shares.create_share(owner=user, file_id=file.pk)
    for answer in (
        share(client, file=str(file.pk), **terms),
        client.patch(f"/v1/shares/{made.pk}", terms, format="json"),
    ):
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == [field]
    assert Share.objects.get() == made


def test_one_file_or_one_folder(client: APIClient, user: User) -> None:
    file, home = upload(user), create_folder(owner=user, parent=None, name="Home")
    for body in ({}, {"file": None}, {"file": str(file.pk), "folder": str(home.pk)}):
        answer = share(client, **body)
        assert (answer.status_code, answer.json()["detail"]) == (
            422,
            "Choose one file or one folder to share.",
        )
    assert share(client, file="x").status_code == 422
    assert share(client, folder=str(file.pk)).status_code == 404
    made = share(client, file=str(file.pk)).json()
    # A link leads where it leads; another place is another link.
    moved = client.patch(made["urls"]["get"], {"folder": str(home.pk)}, format="json")
    assert list(moved.json()["errors"]) == ["folder"]


def test_what_the_list_costs(client: APIClient, user: User) -> None:
    home = create_folder(owner=user, parent=None, name="Home")
    for number in range(6):
        file = upload(user, seed=number)
        shares.create_share(owner=user, **({"file_id": file.pk} if number % 2 else {"folder_id": home.pk}))
    client.get("/v1/account")
    for limit in (1, 6):
        with CaptureQueriesContext(connection) as queries:
            page = client.get(f"/v1/shares?limit={limit}").json()
        assert len(page["results"]) == limit
        assert len(queries) == 2
    assert len(client.get(client.get("/v1/shares?limit=4").json()["next"]).json()["results"]) == 2
