"""Links: who may see what, for how long, and that nobody sees where a picture was taken."""

import io
import re
import zipfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from drive.downloads.zip_archives import LostBytesError
from drive.files import services, trash
from drive.models import File, Folder, Share
from drive.shares import services as shares
from drive.shares import visits
from drive.uploads import work
from drive.urls import visit_urls
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.workers.sanitize.test_images import MAKERS, SECRET, XMP, exif, pixels

pytestmark = pytest.mark.django_db
OTHER = "01890000-0000-7000-8000-000000000000"
NAMES = {"jpeg": "a.jpg", "png": "b.png", "webp": "c.webp", "tiff": "d.tif"}


class Shared:
    """A shared folder with one inside it, one beside it, and pictures that tell where they were taken."""

    def __init__(self, owner: User, **terms: Any):
        self.owner = owner
        self.above = services.create_folder(owner=owner, parent=None, name="Private")
        self.top = services.create_folder(owner=owner, parent=self.above, name="Holiday")
        self.inner = services.create_folder(owner=owner, parent=self.top, name="Day 1")
        self.beside = services.create_folder(owner=owner, parent=self.above, name="Tax")
        self.files = {
            kind: upload(owner, name, folder=self.top, data=MAKERS[kind](6)) for kind, name in NAMES.items()
        }
        self.deep = upload(owner, "deep.jpg", folder=self.inner, data=MAKERS["jpeg"]())
        self.hidden = upload(owner, "secret.jpg", folder=self.beside, seed=9)
        work.inspect_uploads(owner.pk)
        self.share = shares.create_share(owner=owner, folder_id=self.top.pk, **terms)

    def url(self, name: str = "enter", **named: object) -> str:
        return reverse(f"share:{name}", kwargs={"token": self.share.token, **named})

    def all_urls(self) -> list[str]:
        known = {"folder_id": self.inner.pk, "file_id": self.deep.pk, "side": 256}
        return [
            self.url(p.name, **{n: known[n] for n in p.pattern.converters if n != "token"})
            for p in visit_urls[0]
        ]


@pytest.fixture
def shared(user: User) -> Shared:
    return Shared(user)


def body(answer: Any) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def end(shared: Shared, how: str) -> None:
    share, owner = shared.share, shared.owner
    match how:
        case "expired":
            Share.objects.filter(pk=share.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
        case "revoked":
            shares.revoke_share(owner=owner, share_id=share.pk)
        case "trashed":
            trash.trash(owner=owner, chosen=services.select(owner=owner, folder_ids=[shared.above.pk]))
        case "left":
            User.objects.filter(pk=owner.pk).update(is_active=False)
        case "wrong":
            share.token = "x" * 32


# --- Who may see what.


def test_visitors_see_folders_and_files_without_a_cookie(shared: Shared) -> None:
    visitor = Client()
    page = visitor.get(shared.url())
    text = page.content.decode()
    assert "Day 1" in text
    assert all(name in text for name in NAMES.values())
    assert "Private" not in text
    assert "Tax" not in text
    inner = visitor.get(shared.url("folder", folder_id=shared.inner.pk)).content.decode()
    assert "deep.jpg" in inner
    assert shared.url() in inner
    assert "Private" not in inner
    for url in shared.all_urls():
        answer = visitor.get(url)
        assert answer.status_code == 200, url
        assert "noindex" in answer["X-Robots-Tag"]
        assert answer["Referrer-Policy"] == "no-referrer"
        assert body(answer)
    assert not visitor.cookies


@pytest.mark.parametrize("how", ["expired", "revoked", "trashed", "left", "wrong"])
def test_all_that_does_not_lead_anywhere_looks_alike(shared: Shared, how: str) -> None:
    page = Client().get(reverse("share:enter", args=["never-was"]))
    end(shared, how)
    for url in shared.all_urls():
        answer = Client().get(url)
        assert answer.status_code == 404, url
        assert re.sub(r"/s/[^\"<]*|nonce=\S+|value=\S+|Token\S+ \S+", "", answer.content.decode()) == re.sub(
            r"/s/[^\"<]*|nonce=\S+|value=\S+|Token\S+ \S+", "", page.content.decode()
        )


def test_nothing_beside_or_above_can_be_reached(shared: Shared, other_user: User) -> None:
    theirs = upload(other_user, seed=3)
    top = upload(shared.owner, "top.jpg", seed=4)
    for folder in (
        shared.above,
        shared.beside,
        services.create_folder(owner=other_user, parent=None, name="x"),
    ):
        assert Client().get(shared.url("folder", folder_id=folder.pk)).status_code == 404
        assert Client().get(shared.url("download"), {"folder": str(folder.pk)}).status_code == 404
    for file_id in (shared.hidden.pk, theirs.pk, top.pk, OTHER):
        for name, more in {"file": {}, "content": {}, "thumbnail": {"side": 256}}.items():
            assert Client().get(shared.url(name, file_id=file_id, **more)).status_code == 404
    assert Client().get(shared.url("download"), {"folder": "no id"}).status_code == 404


def test_what_goes_into_the_trash_vanishes(shared: Shared) -> None:
    owner = shared.owner
    trash.trash(owner=owner, chosen=services.select(owner=owner, folder_ids=[shared.inner.pk]))
    assert "Day 1" not in Client().get(shared.url()).content.decode()
    assert Client().get(shared.url("file", file_id=shared.deep.pk)).status_code == 404
    assert Client().get(shared.url("folder", folder_id=shared.inner.pk)).status_code == 404


def test_a_single_file_shows_nothing_of_its_folder(user: User, shared: Shared) -> None:
    share = shares.create_share(owner=user, file_id=shared.files["jpeg"].pk)
    visitor = Client()
    page = visitor.get(reverse("share:enter", args=[share.token])).content.decode()
    assert "a.jpg" in page
    assert "b.png" not in page
    assert "Holiday" not in page
    for name, named in {
        "file": {"file_id": shared.files["png"].pk},
        "folder": {"folder_id": shared.top.pk},
        "download": {},
    }.items():
        url = reverse(f"share:{name}", kwargs={"token": share.token, **named})
        assert visitor.get(url).status_code == 404


def test_view_only_hands_out_no_downloads(user: User) -> None:
    shared = Shared(user, can_download=False)
    assert "ownload" not in Client().get(shared.url()).content.decode()
    assert Client().get(shared.url("download")).status_code == 404
    content = shared.url("content", file_id=shared.deep.pk)
    assert body(Client().get(content))
    assert Client().get(content, {"download": ""}).status_code == 404


def test_visitors_change_nothing(shared: Shared) -> None:
    for url in shared.all_urls()[1:]:
        assert Client().post(url).status_code == 405


# --- What the bytes tell.


@pytest.mark.parametrize("kind", NAMES)
def test_no_served_byte_tells_the_place(shared: Shared, kind: str) -> None:
    file, before = shared.files[kind], MAKERS[kind](6)
    assert SECRET in before
    for query in ("", "?download"):
        answer = Client().get(shared.url("content", file_id=file.pk) + query)
        after = body(answer)
        assert SECRET not in after
        assert b"GPS" not in after
        assert int(answer["Content-Length"]) == len(after)
        assert answer["X-Content-Type-Options"] == "nosniff"
        if kind != "tiff" or query:
            assert (pixels(after) == pixels(before)).all()
    url = shared.url("content", file_id=file.pk) + "?download"
    again = Client().get(url, headers={"If-None-Match": answer["ETag"]})
    assert again.status_code == 304
    small = body(Client().get(shared.url("thumbnail", file_id=file.pk, side=256)))
    assert SECRET not in small


def test_neither_does_the_zip(shared: Shared) -> None:
    odd = upload(shared.owner, "odd.tif", folder=shared.top, data=picture_bytes("TIFF", compression="jpeg"))
    data = body(Client().get(shared.url("download")))
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        contents = {name: found.read(name) for name in found.namelist()}
    assert {"Holiday/Day 1/deep.jpg", *(f"Holiday/{name}" for name in NAMES.values())} < set(contents)
    assert not any(SECRET in content for content in contents.values())
    assert f"Holiday/{odd.name}" not in contents
    assert odd.name in contents["NOT INCLUDED.txt"].decode()


def test_missing_bytes_break_the_zip_off(shared: Shared) -> None:
    default_storage.delete(shared.deep.blob.path)
    answer = Client().get(shared.url("download"))
    with pytest.raises(LostBytesError):
        body(answer)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("odd.tif", picture_bytes("TIFF", 1600, 1200, compression="jpeg")),
        ("odd.avif", picture_bytes("AVIF", 1600, 1200, exif=exif(6), xmp=XMP, speed=10)),
    ],
)
def test_what_cannot_be_cleaned_is_shown_as_a_preview_only(shared: Shared, name: str, data: bytes) -> None:
    odd = upload(shared.owner, name, folder=shared.top, data=data)
    work.inspect_uploads(shared.owner.pk)
    content = shared.url("content", file_id=odd.pk)
    shown = Client().get(content)
    assert shown["Content-Type"] == "image/webp"
    view = body(shown)
    assert SECRET not in view
    assert max(pixels(view).shape) == 1024
    refused = Client().get(content, {"download": ""})
    assert refused.status_code == 422
    assert "Only a preview of this file" in refused.content.decode()


# --- Passwords and visits.


def test_a_password_opens_it_until_it_changes(user: User) -> None:
    shared = Shared(user, password="open sesame")
    assert "open sesame" not in shared.share.password
    visitor = Client()
    asked = visitor.get(shared.url())
    assert "Day 1" not in asked.content.decode()
    # With none at all, a browser would send no origin, and the form would be refused.
    assert asked["Referrer-Policy"] == "same-origin"
    for url in shared.all_urls()[1:]:
        assert visitor.get(url)["Location"] == shared.url()
    assert visitor.post(shared.url(), {"password": "wrong"}).status_code == 422
    assert visitor.post(shared.url(), {"password": "open sesame"})["Location"] == shared.url()
    assert "Day 1" in visitor.get(shared.url()).content.decode()
    assert body(visitor.get(shared.url("content", file_id=shared.deep.pk)))
    other = shares.create_share(owner=user, folder_id=shared.top.pk, password="open sesame")
    assert "Day 1" not in visitor.get(reverse("share:enter", args=[other.token])).content.decode()
    shares.change_share(owner=user, share_id=shared.share.pk, password="another one")
    assert "Day 1" not in visitor.get(shared.url()).content.decode()


def test_guessing_is_slowed_down(user: User) -> None:
    shared = Shared(user, password="open sesame")
    codes = [Client().post(shared.url(), {"password": str(n)}).status_code for n in range(visits.TRIES + 2)]
    assert codes == [422] * visits.TRIES + [429] * 2
    assert Client().post(shared.url(), {"password": "open sesame"}).status_code == 429
    elsewhere = Client(REMOTE_ADDR="192.0.2.7")
    assert elsewhere.post(shared.url(), {"password": "open sesame"}).status_code == 302


def test_a_visit_counts_once(shared: Shared, client_of: Callable[[User], Client]) -> None:
    for _ in range(3):
        Client().get(shared.url())
    Client(HTTP_USER_AGENT="another").get(shared.url())
    client_of(shared.owner).get(shared.url())
    shared.share.refresh_from_db()
    assert shared.share.visits == 2


# --- One's own links.


def test_tokens_cannot_be_guessed(shared: Shared) -> None:
    other = shares.create_share(owner=shared.owner, folder_id=shared.top.pk)
    assert len({shared.share.token, other.token}) == 2
    assert len(other.token) == 32
    assert other.expires_at is not None
    assert timedelta(days=29) < other.expires_at - timezone.now() <= timedelta(days=30)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"folder_id": OTHER},
        {"expires_at": timezone.now()},
        {"expires_at": shares.in_days(shares.MOST_DAYS + 1)},
        {"password": "x" * 201},
    ],
)
def test_bad_terms_are_refused(user: User, wrong: dict[str, Any]) -> None:
    file = upload(user)
    named = {"file_id": file.pk} if wrong and "folder_id" not in wrong else {}
    with pytest.raises((services.Invalid, services.NotFound)):
        shares.create_share(owner=user, **named, **wrong)


def test_links_are_made_changed_and_revoked_by_forms(
    user: User, other_user: User, client_of: Callable[[User], Client]
) -> None:
    client, folder = client_of(user), services.create_folder(owner=user, parent=None, name="Sea")
    page = client.get("/drive/share/", {"folder": str(folder.pk)})
    assert "Share “Sea”" in page.content.decode()
    sent = {"folder": str(folder.pk), "lifetime": "7", "password": "pw", "can_download": "on"}
    done = client.post("/drive/share/", {**sent, "label": "For Ada"}, follow=True)
    share = Share.objects.get()
    assert share.label == "For Ada"
    assert f"http://testserver/s/{share.token}/" in done.content.decode()
    assert "For Ada" in done.content.decode()
    dialog = client.post("/drive/share/", sent, headers={"HX-Request": "true"}).content.decode()
    assert "data-copy-from" in dialog
    assert "<html" not in dialog
    change = reverse("drive:change-share", args=[share.pk])
    assert client_of(other_user).post(change, {"lifetime": ""}).status_code == 404
    assert 'value="For Ada"' in client.get(change).content.decode()
    client.post(change, {"lifetime": "", "remove_password": "on", "label": "For Bo"})
    share.refresh_from_db()
    assert (share.expires_at, share.password, share.can_download) == (None, "", False)
    assert share.label == "For Bo"
    revoke = reverse("drive:revoke-share", args=[share.pk])
    assert client_of(other_user).post(revoke).status_code == 404
    assert client.post(revoke).status_code == 302
    assert client.post(revoke).status_code == 404
    assert str(share.token) not in client.get("/drive/shared/").content.decode()
    assert Client().get(f"/s/{share.token}/").status_code == 404


def test_the_number_of_queries_does_not_grow(
    user: User, client_of: Callable[[User], Client], django_assert_max_num_queries: Any
) -> None:
    client, first = client_of(user), upload(user)
    few = services.create_folder(owner=user, parent=None, name="few")
    many = services.create_folder(owner=user, parent=None, name="many")
    rows = [
        File(owner=user, folder=f, name=f"{n}.jpg", blob=first.blob, content_type="image/jpeg", size=1)
        for f, count in ((few, 1), (many, 70))
        for n in range(count)
    ]
    File.objects.bulk_create(rows)
    Folder.objects.bulk_create([Folder(owner=user, parent=many, name=str(n)) for n in range(70)])
    made = [shares.create_share(owner=user, folder_id=folder.pk) for folder in (few, many)]
    counts = []
    for share in made:
        url = reverse("share:enter", args=[share.token])
        Client().get(url)
        with django_assert_max_num_queries(5) as counted:
            assert Client().get(url).status_code == 200
        counts.append(len(counted.captured_queries))
    assert counts[0] == counts[1]
    with django_assert_max_num_queries(6) as one:
        client.get("/drive/shared/")
    for _ in range(20):
        shares.create_share(owner=user, folder_id=few.pk)
    with django_assert_max_num_queries(6) as more:
        client.get("/drive/shared/")
    assert len(more.captured_queries) <= len(one.captured_queries)
