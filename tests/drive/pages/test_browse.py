"""The drive's pages as a server renders them, without any script."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from accounts.models import User
from drive.files import listing, services, trash
from drive.models import File, Folder, Upload
from drive.shares import services as shares
from drive.uploads import work
from drive.urls import urlpatterns
from drive.views.responses import trashed_at, undo_url
from ipau.common.http.action_pages import page_above
from tests.drive.factories import upload
from tests.pictures import picture_bytes


@pytest.fixture
def client(client_of: Callable[[User], Client], user: User) -> Client:
    return client_of(user)


def fill(user: User, count: int, folder: Folder | None = None) -> list[File]:
    """Put files into a folder that all show the same picture, checked already."""
    first = upload(user, "0000.jpg", folder=folder)
    work.inspect_uploads(user.pk)
    rows = [
        File(
            owner=user,
            folder=folder,
            name=f"{number:04}.jpg",
            blob_id=first.blob_id,
            content_type=first.content_type,
            size=number,
            width=1,
            height=1,
            state="ready",
        )
        for number in range(1, count)
    ]
    return [first, *File.objects.bulk_create(rows)]


def names_on(page: str, files: list[File]) -> list[str]:
    """Return the names of the files whose tiles are on a page, in its order."""
    there = [(page.index(f'id="tile-{f.pk}"'), f.name) for f in files if f'id="tile-{f.pk}"' in page]
    return [name for _, name in sorted(there)]


# --- Whose things.


class Theirs:
    """What another person has: one of each kind that an address may name."""

    def __init__(self, owner: User):
        self.folder = services.create_folder(owner=owner, parent=None, name="theirs")
        self.file = upload(owner, "theirs.jpg", folder=self.folder)
        work.inspect_uploads(owner.pk)
        self.gone = upload(owner, "gone.jpg")
        chosen = services.select(owner=owner, file_ids=[self.gone.pk])
        self.trashed_at = trash.trash(owner=owner, chosen=chosen)
        self.share = shares.create_share(owner=owner, folder_id=self.folder.pk)
        self.upload = Upload.objects.create(
            owner=owner,
            name="theirs.mov",
            length=10,
            multipart_id="theirs",
            part_size=10,
            expires_at=timezone.now() + timedelta(days=1),
        )

    def arguments(self, pattern: URLPattern) -> dict[str, object]:
        known = {
            "file_id": self.file.pk,
            "folder_id": self.folder.pk,
            "side": 256,
            "share_id": self.share.pk,
            "upload_id": self.upload.pk,
            "move_id": uuid4(),
            "at": undo_url(self.trashed_at).rstrip("/").rsplit("/", 1)[-1],
        }
        return {name: known[name] for name in pattern.pattern.converters}

    def body(self) -> dict[str, object]:
        """Return every field that a form of the drive may send, each naming something of theirs."""
        return {
            "file": [str(self.file.pk)],
            "folder": [str(self.folder.pk)],
            "root": [str(self.gone.pk)],
            "parent": str(self.folder.pk),
            "destination": str(self.folder.pk),
            "name": "mine now",
        }


def everything() -> list[list[dict[str, object]]]:
    return [list(model.objects.values()) for model in (File, Folder, Upload)]


# These show one's own drive only; nothing in their addresses or forms names another person's thing.
OWN = {"root", "shared", "trash", "empty-trash", "search", "starred", "tree", "keys"}
# The poller is told that a tile is gone, as it is for one's own that were deleted.
FORGETFUL = {"states"}


@pytest.mark.parametrize("pattern", urlpatterns, ids=lambda pattern: pattern.name)
def test_other_peoples_things_do_not_exist(
    pattern: URLPattern, client: Client, other_user: User, user: User
) -> None:
    theirs = Theirs(other_user)
    before = everything()
    address = reverse(f"drive:{pattern.name}", kwargs=theirs.arguments(pattern))
    body = theirs.body()
    # The same, asked for by a page, by htmx, and by a form.
    answers = [
        client.get(address, body),
        client.get(address, body, headers={"HX-Request": "true"}),
        client.post(address, body),
        client.post(address, body, headers={"HX-Request": "true", "Accept": "application/json"}),
    ]
    if pattern.name in OWN:
        assert b"theirs" not in answers[0].content
    elif pattern.name in FORGETFUL:
        page = client.post(address, {"pending": [str(theirs.file.pk)]}).content.decode()
        assert "theirs" not in page
    else:
        # The address of an action leads browsers to the page above it.
        statuses = {one.status_code for one in answers if one.get("Location") != page_above(address)}
        assert {404} <= statuses <= {404, 405}
        assert {one.status_code for one in answers[2:]} <= {404, 405}
    assert before == everything()


@pytest.mark.parametrize("pattern", urlpatterns, ids=lambda pattern: pattern.name)
def test_who_is_not_signed_in_is_asked_to(pattern: URLPattern, user: User) -> None:
    address = reverse(f"drive:{pattern.name}", kwargs=Theirs(user).arguments(pattern))
    for answer in (Client().get(address), Client().post(address)):
        assert answer.status_code in {302, 405}
        if answer.status_code == 302 and answer["Location"] != page_above(address):
            assert answer["Location"].startswith(reverse("account_login"))


def test_every_address_ends_in_a_slash_and_has_a_name() -> None:
    for pattern in urlpatterns:
        assert pattern.name
        assert str(pattern.pattern).endswith("/") or not str(pattern.pattern)


# --- Folders.


@pytest.mark.parametrize("layout", ["grid", "list"])
def test_the_number_of_queries_does_not_grow(
    client: Client, user: User, layout: str, django_assert_max_num_queries: Any
) -> None:
    few = services.create_folder(owner=user, parent=None, name="few")
    many = services.create_folder(owner=user, parent=None, name="many")
    fill(user, 3, few)
    fill(user, 70, many)
    for number in range(70):
        services.create_folder(owner=user, parent=many, name=str(number))
    client.get(f"/drive/?view={layout}")
    counts = []
    for folder in (few, many):
        with django_assert_max_num_queries(8) as counted:
            assert client.get(reverse("drive:folder", args=[folder.pk])).status_code == 200
        counts.append(len(counted.captured_queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("where", ["file", "trash"])
def test_the_other_pages_take_few_queries(
    client: Client, user: User, where: str, django_assert_max_num_queries: Any
) -> None:
    files = fill(user, 70)
    trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[f.pk for f in files[10:]]))
    address = reverse("drive:file", args=[files[5].pk]) if where == "file" else reverse("drive:trash")
    with django_assert_max_num_queries(9):
        assert client.get(address).status_code == 200


@pytest.mark.parametrize("sort", ["newest", "name", "size"])
def test_paging_shows_each_file_once_in_each_order(client: Client, user: User, sort: str) -> None:
    files = fill(user, 70)
    key = {"newest": lambda f: -f.pk.int, "name": lambda f: f.name, "size": lambda f: -f.size}[sort]
    expected = [f.name for f in sorted(files, key=key)]
    page = client.get(f"/drive/?sort={sort}").content.decode()
    names = names_on(page, files)
    assert len(names) == listing.TILES
    cursor = page.split('rel="next" href="?cursor=')[1].split('"')[0]
    # The way without scripts is a whole page; the one with them brings the tiles only.
    whole = client.get(f"/drive/?cursor={cursor}").content.decode()
    headers = {"HX-Request": "true", "HX-Target": "more-files"}
    part = client.get(f"/drive/?cursor={cursor}", headers=headers).content.decode()
    assert "<html" in whole
    assert "<html" not in part
    assert names_on(whole, files) == names_on(part, files)
    assert names + names_on(part, files) == expected
    assert 'rel="prev"' in whole


def test_capitals_do_not_come_first(client: Client, user: User) -> None:
    files = [upload(user, name) for name in ("b.jpg", "C.jpg", "a.jpg")]
    page = client.get("/drive/?sort=name").content.decode()
    assert names_on(page, files) == ["a.jpg", "b.jpg", "C.jpg"]


def test_order_and_layout_are_remembered_for_the_sitting(client: Client) -> None:
    client.get("/drive/?sort=name&view=list")
    page = client.get("/drive/").content.decode()
    assert 'class="drive-list"' in page
    assert re.search(r'<option value="name"\s+selected', page)
    client.get("/drive/?sort=nonsense&view=nonsense")
    assert 'class="drive-grid"' in client.get("/drive/").content.decode()


@pytest.mark.parametrize("query", ["cursor=x", "cursor=e30", "folders=%00", "cursor=WzEsMl0"])
def test_a_damaged_page_address_is_said_to_be_one(client: Client, query: str) -> None:
    assert client.get(f"/drive/?{query}").status_code == 422


def test_an_empty_drive_says_what_to_do(client: Client) -> None:
    page = client.get("/drive/").content.decode()
    assert "Your drive is empty" in page
    assert 'enctype="multipart/form-data"' in page
    assert "The trash is empty" in client.get("/drive/trash/").content.decode()


def test_names_are_shown_as_text(client: Client, user: User) -> None:
    nasty = "<script>alert(1)<|script>.jpg".replace("|", "")
    file = upload(user, nasty)
    folder = services.create_folder(owner=user, parent=None, name="<b>bold")
    for address in ("/drive/", f"/drive/file/{file.pk}/", f"/drive/folder/{folder.pk}/", "/drive/move/"):
        page = client.get(address, {"file": [str(file.pk)]}).content.decode()
        assert "<script>alert" not in page
        assert "<b>bold" not in page


# --- Changing, as plain forms do it.


def test_a_folder_is_made_renamed_and_refused_twice(client: Client, user: User) -> None:
    new = reverse("drive:new-folder")
    assert client.get(new).status_code == 200
    answer = client.post(new, {"name": "Holidays"}, follow=True)
    assert "Folder “Holidays” created." in answer.content.decode()
    assert "already" in client.post(new, {"name": "Holidays"}).content.decode()
    assert "slash" in client.post(new, {"name": "a/b"}).content.decode()
    folder = Folder.objects.get()
    client.post(new, {"name": "Inner", "parent": str(folder.pk)})
    assert Folder.objects.get(name="Inner").parent == folder
    client.post(reverse("drive:rename-folder", args=[folder.pk]), {"name": "Work"})
    folder.refresh_from_db()
    assert folder.name == "Work"


def test_a_file_is_renamed_on_its_page_and_in_the_listing(client: Client, user: User) -> None:
    file = upload(user, "a.jpg")
    address = reverse("drive:rename-file", args=[file.pk])
    assert 'value="a.jpg"' in client.get(address).content.decode()
    assert client.post(address, {"name": "b.jpg"})["Location"] == reverse("drive:file", args=[file.pk])
    in_place = {"HX-Request": "true", "HX-Target": "file-name"}
    assert "b.jpg" in client.get(address, headers=in_place).content.decode()
    assert "c.jpg" in client.post(address, {"name": "c.jpg"}, headers=in_place).content.decode()
    in_dialog = {"HX-Request": "true", "HX-Target": "drive-dialog"}
    answer = client.post(address, {"name": "d.jpg"}, headers=in_dialog)
    assert 'hx-swap-oob="true"' in answer.content.decode()
    assert answer["HX-Reswap"] == "none"
    assert "drive-done" in answer["HX-Trigger"]
    upload(user, "taken.jpg")
    assert "already" in client.post(address, {"name": "taken.jpg"}, headers=in_dialog).content.decode()


def test_things_are_moved_by_a_page_that_asks_where(client: Client, user: User) -> None:
    target = services.create_folder(owner=user, parent=None, name="target")
    moving = services.create_folder(owner=user, parent=None, name="moving")
    inner = services.create_folder(owner=user, parent=moving, name="inner")
    file = upload(user, "a.jpg")
    chosen = {"file": [str(file.pk)], "folder": [str(moving.pk)]}
    page = client.post(reverse("drive:move"), chosen).content.decode()
    assert f'value="{target.pk}"' in page
    for barred in (moving, inner):
        box = re.search(f'name="destination"\\s+value="{barred.pk}"([^>]*)>', page)
        assert box
        assert "disabled" in box[1]
    answer = client.post(reverse("drive:move"), {**chosen, "destination": str(target.pk)})
    assert answer["Location"] == reverse("drive:folder", args=[target.pk])
    file.refresh_from_db()
    moving.refresh_from_db()
    assert (file.folder, moving.parent) == (target, target)
    client.post(reverse("drive:move"), {"file": [str(file.pk)], "destination": ""})
    file.refresh_from_db()
    assert file.folder is None


def test_deleting_offers_undo_and_the_trash_restores(client: Client, user: User) -> None:
    file = upload(user, "a.jpg")
    add = reverse("drive:trash-selection")
    page = client.post(add, {"file": [str(file.pk)]}, follow=True).content.decode()
    file.refresh_from_db()
    undo = undo_url(file.trashed_at)
    assert f'action="{undo}"' in page
    assert "1 item restored." in client.post(undo, follow=True).content.decode()
    assert client.post(undo).status_code == 404
    answer = client.post(add, {"file": [str(file.pk)]}, headers={"HX-Request": "true"})
    assert answer.status_code == 204
    assert "undoUrl" in answer["HX-Trigger"]
    trash = client.get(reverse("drive:trash")).content.decode()
    assert "a.jpg" in trash
    client.post(reverse("drive:restore"), {"root": [str(file.pk)]})
    file.refresh_from_db()
    assert file.trashed_at is None


def test_nothing_chosen_is_said(client: Client) -> None:
    for name in ("move", "trash-selection", "restore"):
        answer = client.post(reverse(f"drive:{name}"), headers={"HX-Request": "true"})
        assert answer.status_code == 422
        assert "Nothing is selected." in answer.content.decode()


def test_an_undo_of_another_age(client: Client) -> None:
    for at in (0, 10**17, 10**30):
        assert client.post(reverse("drive:undo-trash", args=[at])).status_code == 404


def test_the_address_of_an_undo_keeps_the_time_to_the_microsecond() -> None:
    now = timezone.now()
    assert trashed_at(int(undo_url(now).rstrip("/").rsplit("/", 1)[-1])) == now


def test_undo_goes_back_only_to_this_site(client: Client, user: User) -> None:
    for number, referer in enumerate(("https://evil.example/", "http://testserver/drive/?view=list")):
        chosen = services.select(owner=user, file_ids=[upload(user, f"{number}.jpg").pk])
        undo = undo_url(trash.trash(owner=user, chosen=chosen))
        back = client.post(undo, headers={"Referer": referer})["Location"]
        assert back == (referer if number else reverse("drive:trash"))


# --- One file.


def test_a_file_shows_its_facts_and_neighbours(client: Client, user: User) -> None:
    a, b, c = (upload(user, f"{name}.jpg", seed=seed) for seed, name in enumerate("abc"))
    client.get("/drive/?sort=name")
    page = client.get(reverse("drive:file", args=[b.pk])).content.decode()
    assert "320 × 240" in page
    assert "image/jpeg" in page
    before, after = page.split('rel="prev"')[1], page.split('rel="next"')[1]
    assert str(a.pk) in before.split("aria-label")[0]
    assert str(c.pk) in after.split("aria-label")[0]
    client.get("/drive/?sort=newest")
    page = client.get(reverse("drive:file", args=[b.pk])).content.decode()
    assert str(c.pk) in page.split('rel="prev"')[1].split("aria-label")[0]


def test_a_refused_file_says_why(client: Client, user: User) -> None:
    file = upload(user)
    File.objects.update(state="refused", reason="It is torn.")
    page = client.get(reverse("drive:file", args=[file.pk])).content.decode()
    assert "It is torn." in page
    assert "Run app" not in page


def test_a_tiff_is_shown_by_its_rendition(client: Client, user: User) -> None:
    file = upload(user, "scan.tif", data=picture_bytes("TIFF"))
    assert "Being checked" in client.get(reverse("drive:file", args=[file.pk])).content.decode()
    work.inspect_uploads(user.pk)
    page = client.get(reverse("drive:file", args=[file.pk])).content.decode()
    assert f"/drive/file/{file.pk}/thumbnail/1024/?v=" in page


@pytest.mark.parametrize("name", ["folder", "file", "content", "rename-file", "rename-folder"])
def test_things_that_never_were(client: Client, name: str) -> None:
    assert client.get(reverse(f"drive:{name}", args=[uuid4()])).status_code == 404


# --- Administration.


@pytest.mark.parametrize("model", ["file", "folder", "blob"])
def test_operators_see_the_drive_and_cannot_change_bytes(
    model: str, client_of: Callable[[User], Client], user: User
) -> None:
    operator = User.objects.create_superuser("root@example.org", "x")
    services.create_folder(owner=user, parent=None, name="a")
    file = upload(user)
    key = {"file": file.pk, "folder": Folder.objects.get().pk, "blob": file.blob_id}[model]
    admin = client_of(operator)
    assert admin.get(reverse(f"admin:drive_{model}_changelist"), {"q": "a"}).status_code == 200
    page = admin.get(reverse(f"admin:drive_{model}_change", args=[key]))
    assert page.status_code == 200
    assert b'name="blob"' not in page.content
    assert admin.get(reverse(f"admin:drive_{model}_add")).status_code == 403
    assert admin.post(reverse(f"admin:drive_{model}_delete", args=[key])).status_code == 403
