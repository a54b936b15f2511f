"""Renaming, moving, starring, trashing, restoring and deleting over the API."""

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from drive.files import services, trash
from drive.files.services import create_folder, select
from drive.models import Blob, File, Folder
from tests.drive.factories import upload
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db
NOBODYS = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def client(user: User, api: Callable[..., APIClient]) -> APIClient:
    return api(user)


def folder(owner: User, name: str, parent: Folder | None = None) -> Folder:
    return create_folder(owner=owner, parent=parent, name=name)


def put_away(owner: User, *rows: File | Folder) -> None:
    folders = [row.pk for row in rows if isinstance(row, Folder)]
    files = [row.pk for row in rows if isinstance(row, File)]
    trash.trash(owner=owner, chosen=select(owner=owner, folder_ids=folders, file_ids=files))


def patch(client: APIClient, path: str, **changes: Any) -> Any:
    return client.patch(path, changes, format="json")


def test_a_file_is_renamed_moved_and_starred_at_once(client: APIClient, user: User) -> None:
    home, file = folder(user, "Home"), upload(user, "a.jpg")
    path = f"/v1/files/{file.pk}"
    answer = patch(client, path, name="b.jpg", folder=str(home.pk), starred=True)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["name"], told["folder"], told["starred"]) == ("b.jpg", str(home.pk), True)
    assert client.get(path).json() == told
    # What is not sent stays, and what a description says may be sent back.
    assert patch(client, path, starred=False).json() == {**told, "starred": False}
    assert patch(client, path, folder="top").json()["folder"] is None
    assert patch(client, path, folder=str(home.pk)).json()["folder"] == str(home.pk)
    assert patch(client, path, folder=None).json()["folder"] is None
    assert patch(client, path).json()["name"] == "b.jpg"


def test_where_a_name_is_taken(client: APIClient, user: User) -> None:
    home = folder(user, "Home")
    there, file = upload(user, "a.jpg", folder=home), upload(user, "a.jpg", seed=1)
    path = f"/v1/files/{file.pk}"
    # With a name, it is that name or nothing: neither place nor star is changed.
    refused = patch(client, path, folder=str(home.pk), name="a.jpg", starred=True)
    assert (refused.status_code, refused.json()["type"]) == (409, "about:blank#name_taken")
    assert "a.jpg" in refused.json()["detail"]
    file.refresh_from_db()
    assert (file.folder_id, file.starred) == (None, False)
    # Without one, it gets a number; sent again, it keeps that.
    for _ in range(2):
        assert patch(client, path, folder=str(home.pk)).json()["name"] == "a (2).jpg"
    assert patch(client, f"/v1/files/{there.pk}", name="a (2).jpg").status_code == 409
    assert patch(client, path, folder="top", name="a.jpg").json()["name"] == "a.jpg"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"folder": "nonsense"}, "folder"),
        ({"starred": "perhaps"}, "starred"),
        ({"size": 3}, "size"),
    ],
)
def test_changes_that_cannot_be(client: APIClient, user: User, changes: dict[str, Any], field: str) -> None:
    file = upload(user)
    answer = patch(client, f"/v1/files/{file.pk}", **changes)
    assert answer.status_code == 422
    assert field in answer.json()["errors"]
    file.refresh_from_db()
    assert file.name == "cat.jpg"


@pytest.mark.parametrize("name", ["a/b", "..", "x" * 256, "a\u202eb", "   "])
def test_names_that_cannot_be(client: APIClient, user: User, name: str) -> None:
    file, there = upload(user), folder(user, "There")
    for path, before in ((f"/v1/files/{file.pk}", "cat.jpg"), (f"/v1/folders/{there.pk}", "There")):
        answer = patch(client, path, name=name)
        assert answer.status_code == 422, answer.content
        assert answer.json()["detail"]
        assert client.get(path).json()["name"] == before


def test_a_folder_is_renamed_and_moved(client: APIClient, user: User) -> None:
    a = folder(user, "a")
    b = folder(user, "b", a)
    path = f"/v1/folders/{b.pk}"
    told = client.get(path).json()
    assert [step["name"] for step in told["path"]] == ["a", "b"]
    assert [step["id"] for step in told["path"]] == [str(a.pk), str(b.pk)]
    told = patch(client, path, parent="top", name="B").json()
    assert (told["parent"], [step["name"] for step in told["path"]]) == (None, ["B"])
    assert patch(client, path, parent=str(a.pk)).json()["parent"] == str(a.pk)
    assert patch(client, f"/v1/folders/{folder(user, 'B').pk}", parent=str(a.pk)).json()["name"] == "B (2)"
    # At the top "a" is taken, so B can have neither the name nor the place.
    assert patch(client, path, parent=None, name="a").status_code == 409
    assert client.get(path).json()["parent"] == str(a.pk)


def test_a_folder_cannot_go_into_itself(client: APIClient, user: User) -> None:
    a = folder(user, "a")
    b = folder(user, "b", a)
    for target in (a, b):
        answer = patch(client, f"/v1/folders/{a.pk}", parent=str(target.pk), name="new")
        assert answer.status_code == 409
        assert answer.json()["type"] == "about:blank#folder_cycle"
        assert answer.json()["detail"] == "“a” cannot be moved into itself."
        body = {"folders": [str(a.pk)], "destination": str(target.pk)}
        assert client.post("/v1/drive/move", body, format="json").status_code == 409
    a.refresh_from_db()
    assert (a.name, a.parent_id) == ("a", None)


def test_a_file_there_and_back_again(client: APIClient, user: User) -> None:
    home = folder(user, "Home")
    file = upload(user, "a.jpg", folder=home)
    path = f"/v1/files/{file.pk}"
    before = client.get(path).json()
    assert client.post(f"{path}/restore").status_code == 404
    assert client.delete(path).status_code == 204
    for url in (path, f"{path}/content"):
        assert client.get(url).status_code == 404
    assert patch(client, path, name="b.jpg").status_code == 404
    [listed] = client.get("/v1/files?trashed=true").json()["results"]
    assert listed["id"] == str(file.pk)
    assert listed["trashed_at"] is not None
    answer = client.post(f"{path}/restore")
    assert (answer.status_code, answer.json()) == (200, before)
    assert before["trashed_at"] is None
    # What has lost its folder goes to the top.
    client.delete(path)
    client.delete(f"/v1/folders/{home.pk}")
    assert client.post(f"{path}/restore").json()["folder"] is None


def test_a_folder_there_and_back_again(client: APIClient, user: User) -> None:
    home = folder(user, "Home")
    file, earlier = upload(user, "a.jpg", folder=home), upload(user, "b.jpg", folder=home)
    path = f"/v1/folders/{home.pk}"
    before = client.get(path).json()
    put_away(user, earlier)
    assert client.delete(path).status_code == 204
    for url in (path, f"{path}/archive", f"/v1/files/{file.pk}"):
        assert client.get(url).status_code == 404
    # A file that went with its folder is no thing of the trash by itself.
    assert client.post(f"/v1/files/{file.pk}/restore").status_code == 404
    assert client.delete(f"/v1/files/{file.pk}?permanently=true").status_code == 404
    assert [f["id"] for f in client.get("/v1/files?trashed=true").json()["results"]] == [str(earlier.pk)]
    assert [f["id"] for f in client.get("/v1/folders?trashed=true").json()["results"]] == [str(home.pk)]
    assert client.post(f"/v1/files/{home.pk}/restore").status_code == 404
    assert client.post(f"/v1/folders/{file.pk}/restore").status_code == 404
    assert client.post(f"{path}/restore").json() == before
    assert client.get(f"/v1/files/{file.pk}").status_code == 200
    assert client.get(f"/v1/files/{earlier.pk}").status_code == 404


def test_deleting_for_good(client: APIClient, user: User) -> None:
    home = folder(user, "Home")
    inside = upload(user, "a.jpg", folder=home)
    trashed_before, live, trashed = (upload(user, f"{n}.jpg", seed=n) for n in range(3))
    services.move(owner=user, chosen=select(owner=user, file_ids=[trashed_before.pk]), destination=home)
    put_away(user, trashed_before)
    put_away(user, trashed)
    for file in (live, trashed):
        path = f"/v1/files/{file.pk}?permanently=true"
        assert client.delete(path).status_code == 204
        assert client.delete(path).status_code == 404
        assert not File.objects.filter(pk=file.pk).exists()
    # An id names one kind of thing only.
    assert client.delete(f"/v1/files/{home.pk}?permanently=true").status_code == 404
    assert client.delete(f"/v1/folders/{home.pk}?permanently=true").status_code == 204
    # What lay in the trash by itself stays there.
    assert list(File.objects.filter(owner=user)) == [trashed_before]
    assert not File.objects.filter(pk=inside.pk).exists()
    assert not Folder.objects.filter(owner=user).exists()
    assert client.delete(f"/v1/files/{trashed_before.pk}?permanently=sure").status_code == 422


def test_many_at_once(client: APIClient, user: User) -> None:
    home, other = folder(user, "Home"), folder(user, "Other")
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(3)]
    chosen = {"files": [str(f.pk) for f in files], "folders": [str(other.pk)]}

    def post(path: str, **body: Any) -> Any:
        return client.post(f"/v1/{path}", body, format="json")

    assert post("drive/move", **chosen, destination=str(home.pk)).json() == {"count": 4}
    assert {f.folder_id for f in File.objects.filter(owner=user)} == {home.pk}
    assert post("drive/move", **chosen, destination=str(home.pk)).json() == {"count": 0}
    assert post("drive/move", **chosen, destination="top").json() == {"count": 4}
    # All or none.
    with_one_more = {**chosen, "files": [*chosen["files"], NOBODYS]}
    for path, more in (("drive/move", {"destination": str(home.pk)}), ("drive/trash", {})):
        assert post(path, **with_one_more, **more).status_code == 404
    assert File.objects.live().filter(owner=user, folder=None).count() == 3

    assert post("drive/trash", **chosen).json() == {"count": 4}
    assert post("drive/restore", **with_one_more).status_code == 404
    # A folder is not found among the files.
    assert post("drive/restore", files=chosen["folders"]).status_code == 404
    assert not File.objects.live().filter(owner=user).exists()
    assert post("drive/restore", **chosen).json() == {"count": 4}
    assert File.objects.live().filter(owner=user).count() == 3
    for path, more in (("drive/move", {"destination": None}), ("drive/trash", {}), ("drive/restore", {})):
        answer = post(path, **more)
        assert (answer.status_code, answer.json()["detail"]) == (422, "Nothing is selected.")
        for wrong in (["x"], "x", [NOBODYS] * 20_001):
            assert "files" in post(path, files=wrong, **more).json()["errors"]
    assert "destination" in post("drive/move", **chosen).json()["errors"]


def test_the_trash_is_emptied(client: APIClient, user: User, other_user: User) -> None:
    home = folder(user, "Home")
    upload(user, "a.jpg", folder=home)
    gone, kept, theirs = upload(user, seed=1), upload(user, "dog.jpg", seed=2), upload(other_user, seed=3)
    put_away(user, home, gone)
    put_away(other_user, theirs)
    assert client.post("/v1/trash/empty").json() == {"count": 2}
    assert client.post("/v1/trash/empty").json() == {"count": 0}
    assert set(File.objects.all()) == {kept, theirs}


def test_how_full_the_drive_is(client: APIClient, user: User, settings: Any) -> None:
    data = picture_bytes()
    settings.DRIVE_QUOTA_BYTES = 3 * len(data)
    assert client.get("/v1/drive").json() == {
        "used": 0,
        "quota": 3 * len(data),
        "left": 3 * len(data),
        "trash_days": settings.TRASH_DAYS,
    }
    upload(user, data=data)
    put_away(user, upload(user, data=data))
    told = client.get("/v1/drive").json()
    assert (told["used"], told["left"]) == (2 * len(data), len(data))
    client.post("/v1/trash/empty")
    assert client.get("/v1/drive").json()["used"] == len(data)
    assert Blob.objects.count() == 1
