"""Uploading through the site, and what the worker makes of it."""

import io
from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from PIL import Image

from accounts.models import User
from drive.files import services, trash
from drive.models import Blob, File, FileState, Thumbnail
from drive.storage import blobs
from drive.uploads import work
from tests.drive.factories import upload
from tests.pictures import picture_bytes

UPLOAD = reverse("drive:upload")
HTML = b"<!doctype html><html><script>alert(1)</script></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def send(client: Client, data: bytes, name: str = "cat.jpg", folder: str = "") -> object:
    sent = {"file": SimpleUploadedFile(name, data, "image/jpeg"), "folder": folder}
    return client.post(UPLOAD, sent, headers={"Accept": "application/json"})


@pytest.fixture
def client(client_of: Callable[[User], Client], user: User) -> Client:
    return client_of(user)


@pytest.mark.parametrize(
    ("format", "content_type"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("TIFF", "image/tiff")],
)
def test_a_picture_comes_in_by_its_content(client: Client, format: str, content_type: str) -> None:
    answer = send(client, picture_bytes(format), "picture.anything")
    assert answer.status_code == 201
    file = File.objects.get()
    assert answer.json()["id"] == str(file.pk)
    assert (file.content_type, file.width, file.height, file.state) == (content_type, 320, 240, "uploaded")
    assert f'id="tile-{file.pk}"' in answer.json()["tile"]


def test_it_lands_in_the_folder(client: Client, user: User) -> None:
    folder = services.create_folder(owner=user, parent=None, name="a")
    assert send(client, picture_bytes(), folder=str(folder.pk)).status_code == 201
    assert File.objects.get().folder == folder


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"\0" * 5000, "unreadable"),
        (HTML, "unreadable"),
        (SVG, "unreadable"),
        (b"GIF89a" + b"\0" * 500, "unreadable"),
        (b"%PDF-1.7\n" + b"\0" * 500, "unreadable"),
    ],
    ids=["empty", "zeros", "html", "svg", "gif", "pdf"],
)
def test_what_is_no_picture_is_refused_with_a_sentence(client: Client, data: bytes, code: str) -> None:
    answer = send(client, data)
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] if "code" in answer.json() else code in answer.json()["type"]
    assert answer.json()["detail"].endswith(".")
    assert not File.objects.exists()
    assert not Blob.objects.exists()


def test_a_file_that_is_too_large_is_refused(client: Client, settings: object) -> None:
    settings.UPLOAD_MAX_BYTES = 1000  # type: ignore[attr-defined]
    answer = send(client, picture_bytes())
    assert answer.status_code == 413
    assert "The limit is" in answer.json()["detail"]


def test_a_request_that_is_far_too_large_is_not_even_read(client: Client, user: User) -> None:
    answer = client.post(
        UPLOAD,
        data=b"x",
        content_type="multipart/form-data; boundary=x",
        headers={"Accept": "application/json"},
        CONTENT_LENGTH=str(10**12),
    )
    assert answer.status_code == 413


def test_more_pixels_than_are_accepted_are_refused_at_once(client: Client) -> None:
    out = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(out, "PNG")
    answer = send(client, out.getvalue(), "sixty.png")
    assert answer.status_code == 422
    assert "60 megapixels" in answer.json()["detail"]


def test_the_token_is_asked_for(user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert send(client, picture_bytes()).status_code == 403
    assert not File.objects.exists()


def test_a_plain_form_takes_several_and_says_what_became_of_each(client: Client) -> None:
    files = [SimpleUploadedFile("a.jpg", picture_bytes()), SimpleUploadedFile("page.jpg", HTML)]
    answer = client.post(UPLOAD, {"file": files}, follow=True)
    page = answer.content.decode()
    assert "1 file uploaded." in page
    assert "page.jpg: This file type isn’t supported" in page
    assert [f.name for f in File.objects.all()] == ["a.jpg"]


def test_nothing_chosen(client: Client) -> None:
    assert client.post(UPLOAD, headers={"Accept": "application/json"}).status_code == 422
    assert "Choose a file." in client.post(UPLOAD, follow=True).content.decode()


# --- The worker's look at all the pixels.


def test_a_checked_picture_has_a_thumbnail_without_metadata(user: User) -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    file = upload(user, data=picture_bytes(exif=exif))
    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    assert file.state == FileState.READY
    thumbnail = Thumbnail.objects.get()
    assert thumbnail.side == 256
    data = blobs.read(thumbnail.blob_id)
    assert b"secret place" not in data
    assert max(Image.open(io.BytesIO(data)).size) == 256


def test_a_tiff_also_gets_a_picture_that_browsers_can_show(user: User) -> None:
    file = upload(user, "scan.tif", data=picture_bytes("TIFF", 2000, 1000))
    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    assert (file.state, file.width, file.height) == (FileState.READY, 2000, 1000)
    sizes = {t.side: Image.open(io.BytesIO(blobs.read(t.blob_id))).size for t in Thumbnail.objects.all()}
    assert sizes == {256: (256, 128), 1024: (1024, 512)}


def test_a_truncated_picture_is_refused_by_the_worker_with_a_reason(user: User) -> None:
    whole = picture_bytes()
    file = upload(user, data=whole[: len(whole) // 2])
    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    assert file.state == FileState.REFUSED
    assert file.reason == "This image is damaged: it ends too early."
    assert not Thumbnail.objects.exists()


def test_the_page_learns_of_all_its_uploads_in_one_request(client: Client, user: User) -> None:
    whole = picture_bytes()
    good, bad = upload(user), upload(user, data=whole[:2000])
    ids = {"pending": [str(good.pk), str(bad.pk)]}
    states = reverse("drive:states")
    assert client.post(states, ids).status_code == 204
    work.inspect_uploads(user.pk)
    page = client.post(states, ids).content.decode()
    assert f'id="look-{good.pk}"' in page
    assert "/thumbnail/256/?v=" in page
    assert "it ends too early" in page
    # Nothing is left to wait for: the poller loses its trigger.
    assert 'id="poller"' in page
    assert "hx-trigger" not in page


def test_the_page_forgets_an_upload_that_is_gone(client: Client, user: User) -> None:
    file = upload(user)
    trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[file.pk]))
    page = client.post(reverse("drive:states"), {"pending": [str(file.pk)]}).content.decode()
    assert 'hx-swap-oob="delete"' in page
