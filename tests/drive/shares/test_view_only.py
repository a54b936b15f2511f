"""View-only links: every address below /s/ hands out what a page shows, and nothing else."""

import io
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image

from accounts.models import User
from drive.files import services
from drive.models import Blob, File, Folder, Thumbnail
from drive.shares import services as shares
from drive.storage import blobs
from drive.storage.s3 import BucketStorage
from drive.uploads import renditions, work
from drive.urls import visit_urls
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.workers.checkpoints.weights_files import safetensors_bytes, torch_bytes
from tests.workers.media.videos import video_bytes
from workers import engine

pytestmark = pytest.mark.django_db
LARGE = picture_bytes("JPEG", 1600, 1200, seed=1)


class Link:
    """A folder with a file of each kind behind a view-only link, after the workers."""

    def __init__(self, owner: User, **terms: Any):
        self.owner = owner
        self.folder = services.create_folder(owner=owner, parent=None, name="Work")
        self.inner = services.create_folder(owner=owner, parent=self.folder, name="Inner")
        self.originals = {
            "photo.jpg": LARGE,
            "small.png": picture_bytes("PNG", 200, 100, seed=2),
            "scan.tif": picture_bytes("TIFF", 1600, 900, seed=3),
            "film.mp4": video_bytes("mp4", 320, 240, frames=20),
            "model.safetensors": safetensors_bytes(),
            "model.pt": torch_bytes(),
        }
        self.files = {
            name: upload(owner, name, folder=self.folder, data=data) for name, data in self.originals.items()
        }
        self.files["deep.jpg"] = upload(owner, "deep.jpg", folder=self.inner, data=LARGE)
        work.inspect_uploads(owner.pk)
        while work.inspect_uploads(owner.pk):
            pass
        self.files["log.txt"] = add_text(owner, self.folder, "log.txt", "text/plain")
        self.files["found.json"] = add_text(owner, self.folder, "found.json", "application/json")
        self.share = shares.create_share(owner=owner, folder_id=self.folder.pk, can_download=False, **terms)

    def make_renditions(self) -> None:
        while renditions.make_renditions(self.share.pk):
            pass

    def url(self, name: str = "enter", **named: object) -> str:
        return reverse(f"share:{name}", kwargs={"token": self.share.token, **named})

    def content(self, name: str) -> str:
        return self.url("content", file_id=self.files[name].pk)


def add_text(owner: User, folder: Folder, name: str, content_type: str) -> File:
    """File a text as a job does."""
    stored = blobs.store(f"text of {name}".encode(), content_type)
    blobs.register([stored])
    return File.objects.create(
        owner=owner, folder=folder, name=name, blob_id=stored.sha256, kind="text", state="ready",
        content_type=content_type, size=stored.size,
    )  # fmt: skip


def all_addresses(link: Link) -> dict[str, File]:
    """Return each address below the link, for each of its files and for sizes that exist and that do not."""
    found = {}
    for pattern in visit_urls[0]:
        names = set(pattern.pattern.converters) - {"token"}
        for file in link.files.values():
            for side in (256, 1024, 2048):
                values = {"file_id": file.pk, "folder_id": link.inner.pk, "side": side}
                found[link.url(pattern.name, **{name: values[name] for name in names})] = file
    return found


@pytest.fixture
def link(user: User) -> Link:
    made = Link(user)
    made.make_renditions()
    return made


def ask(url: str, method: str = "get", client: Client | None = None, **headers: str) -> Any:
    """Return an answer, read to its end into `body`, with what it held open closed."""
    answer = getattr(client or Client(), method)(url, headers=headers)
    answer.body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    for close in answer._resource_closers:
        close()
    return answer


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("photo.jpg", "image/webp", (1024, 768)),
        ("deep.jpg", "image/webp", (1024, 768)),
        ("small.png", "image/webp", (200, 100)),
        ("scan.tif", "image/webp", (1024, 576)),
        ("film.mp4", "video/mp4", None),
        ("log.txt", "text/plain; charset=utf-8", None),
        ("model.safetensors", None, None),
        ("model.pt", None, None),
        ("found.json", None, None),
    ],
)
@pytest.mark.parametrize("accel", ["", "/protected/"])
def test_what_each_kind_of_file_hands_out(
    link: Link, settings: Any, name: str, kind: str | None, size: tuple[int, int] | None, accel: str
) -> None:
    settings.ACCEL_PREFIX = accel
    url = link.content(name)
    original = link.files[name].blob
    requests: list[tuple[str, dict[str, str]]] = [
        ("get", {}),
        ("head", {}),
        ("get", {"Range": "bytes=0-9"}),
        ("get", {"Range": "bytes=-9"}),
        ("get", {"If-None-Match": f'"{original.sha256}"'}),
        ("get", {"If-None-Match": f'"{original.sha256}-clean"'}),
    ]
    for method, headers in requests:
        answer = ask(url, method, **headers)
        if kind is None:
            assert answer.status_code == 404, headers
            continue
        assert answer.status_code in (200, 206, 304)
        if not name.endswith("txt"):
            assert original.path not in answer.get("X-Accel-Redirect", "")
        if answer.status_code == 200:
            assert answer["Content-Type"] == kind
            assert answer["Content-Disposition"].startswith("inline")
    if size and not accel:
        with Image.open(io.BytesIO(ask(url).body)) as shown:
            assert shown.size == size
    for query in ("download", "download=1", "download=&x=1"):
        for method in ("get", "head"):
            assert ask(f"{url}?{query}", method).status_code == 404


def test_no_route_below_the_link_hands_out_an_original(link: Link) -> None:
    """Every address that exists, for every file: a route that comes later has to pass here too."""
    originals = {file.blob_id for name, file in link.files.items() if file.kind not in ("text", "video")}
    data = [Blob.objects.get(pk=key) for key in originals]
    known = [blob.size for blob in data]
    for url, file in sorted(all_addresses(link).items()):
        for query in ("", "?download", f"?folder={link.inner.pk}"):
            answer = ask(url + query)
            assert answer.status_code in (200, 404), url
            assert "attachment" not in answer.get("Content-Disposition", "")
            assert file.kind == "text" or len(answer.body) not in known
    assert ask(link.url("download")).status_code == 404
    assert ask(link.url("download"), "head").status_code == 404


def test_pages_link_to_nothing_that_is_refused(link: Link) -> None:
    for file in link.files.values():
        page = ask(link.url("file", file_id=file.pk)).content.decode()
        assert "?download" not in page
        addresses = {part.split('"')[0] for part in page.split('"')[1::2] if part.startswith("/s/")}
        assert addresses
        for address in addresses:
            assert ask(urlsplit(address).path).status_code == 200, address


def test_the_api_has_no_way_around(link: Link, client: Client) -> None:
    for file in link.files.values():
        for path in (f"/v1/files/{file.pk}", f"/v1/files/{file.pk}/content", f"/v1/shares/{link.share.pk}"):
            assert client.get(path, {"token": link.share.token}).status_code in (401, 404)


def test_a_password_does_not_widen_it(user: User) -> None:
    link = Link(user, password="open sesame")
    visitor = Client()
    assert visitor.get(link.content("photo.jpg")).status_code == 302
    assert visitor.post(link.url(), {"password": "open sesame"}).status_code == 302
    assert visitor.get(link.content("model.pt")).status_code == 404
    assert visitor.get(link.url("download")).status_code == 404


def test_the_right_to_download_gives_the_files(link: Link) -> None:
    shares.change_share(owner=link.owner, share_id=link.share.pk, can_download=True)
    for name in ("model.pt", "model.safetensors"):
        assert ask(link.content(name)).body == link.originals[name]
    with Image.open(io.BytesIO(ask(link.content("photo.jpg")).body)) as whole:
        assert whole.size == (1600, 1200)
    shares.change_share(owner=link.owner, share_id=link.share.pk, can_download=False)
    assert ask(link.content("model.pt")).status_code == 404


def test_before_the_worker_has_come_visitors_see_the_thumbnail(user: User) -> None:
    link = Link(user)
    page = link.url("file", file_id=link.files["photo.jpg"].pk)
    assert "A larger preview is being created" in ask(page).content.decode()
    with Image.open(io.BytesIO(ask(link.content("photo.jpg")).body)) as shown:
        assert max(shown.size) == 256
    link.make_renditions()
    assert "A larger preview is being created" not in ask(page).content.decode()
    with Image.open(io.BytesIO(ask(link.content("photo.jpg")).body)) as shown:
        assert max(shown.size) == 1024


def test_nothing_is_decoded_for_a_visitor(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **named: object) -> None:
        raise AssertionError("decoded in a request")

    monkeypatch.setattr(Image, "open", never)
    monkeypatch.setattr(engine, "thumbnail", never)
    Thumbnail.objects.filter(side=1024).delete()
    for name in link.files:
        ask(link.content(name))
        ask(link.url("file", file_id=link.files[name].pk))


def test_an_image_that_cannot_be_reduced_keeps_its_thumbnail(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Link(user)
    photo = link.files["photo.jpg"]
    # As if each of the tries before had killed its worker.
    for _ in range(renditions.MAX_TRIES):
        assert not renditions._has_failed_too_often(photo.blob_id)
    link.make_renditions()
    large, small = (Thumbnail.objects.get(source=photo.blob_id, side=side) for side in (1024, 256))
    assert large.blob_id == small.blob_id
    assert not renditions.is_missing(photo)


def test_making_a_link_wakes_a_worker_once(
    link: Link, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr("drive.uploads.tasks.send_renditions", lambda *, share_id: sent.append(share_id))
    with django_capture_on_commit_callbacks(execute=True):
        shares.create_share(owner=link.owner, folder_id=link.folder.pk)
        assert not sent
        made = shares.create_share(owner=link.owner, folder_id=link.folder.pk, can_download=False)
    assert sent == [str(made.pk)]
    upload(link.owner, "late.jpg", folder=link.folder, data=picture_bytes("JPEG", 800, 600, seed=8))
    work.inspect_uploads(link.owner.pk)
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(3):
            ask(link.url())
    assert sent == [str(made.pk), str(link.share.pk)]


def test_a_bucket_presigns_nothing_for_visitors(bucket: BucketStorage, user: User) -> None:
    link = Link(user)
    link.make_renditions()
    for name in link.files:
        answer = ask(link.content(name))
        assert answer.status_code in (200, 404), name
        assert "Location" not in answer
