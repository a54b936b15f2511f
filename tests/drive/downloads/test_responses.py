"""How bytes leave: headers, ranges, revalidation, names."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client, RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import User
from drive.downloads import responses
from drive.files import services, trash
from drive.models import Blob, File, Thumbnail
from drive.storage import blobs
from drive.uploads import work
from tests.drive.factories import upload
from tests.pictures import picture_bytes

DATA = bytes(range(256)) * 4


@pytest.fixture
def blob(db: None) -> Blob:
    stored = blobs.store(DATA, "image/png")
    blobs.register([stored])
    return Blob.objects.get(pk=stored.sha256)


def get(blob: Blob, **options: Any) -> Any:
    headers = options.pop("headers", {})
    options = {"name": "a.png", "content_type": "image/png", **options}
    return finished(responses.serve(RequestFactory().get("/", headers=headers), blob, **options))


def finished(response: Any) -> Any:
    """Read a response as a server would, and close what it holds open.

    Not by its own `close`, which also ends the test's connection to the database.
    """
    response.body = b"".join(response.streaming_content) if response.streaming else response.content
    for close in response._resource_closers:
        close()
    return response


def test_the_whole(blob: Blob) -> None:
    answer = get(blob)
    assert answer.status_code == 200
    assert answer.body == DATA
    assert answer["Content-Type"] == "image/png"
    assert answer["Content-Length"] == str(len(DATA))
    assert answer["Accept-Ranges"] == "bytes"
    assert answer["ETag"] == f'"{blob.sha256}"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer["Content-Security-Policy"]
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "private" in answer["Cache-Control"]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1000-", 1000, 1024),
        ("bytes=1000-99999", 1000, 1024),
        ("bytes=-24", 1000, 1024),
        ("bytes=-9999", 0, 1024),
    ],
)
def test_a_range(blob: Blob, asked: str, start: int, stop: int) -> None:
    answer = get(blob, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.body == DATA[start:stop]
    assert answer["Content-Range"] == f"bytes {start}-{stop - 1}/1024"
    assert answer["Content-Length"] == str(stop - start)
    assert answer["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_that_does_not_exist(blob: Blob, asked: str) -> None:
    answer = get(blob, headers={"Range": asked})
    assert answer.status_code == 416
    assert answer["Content-Range"] == "bytes */1024"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=5-2", "lines=1-2", "bytes=-", "bytes=a-b"])
def test_a_range_that_is_none_gives_the_whole(blob: Blob, asked: str) -> None:
    assert get(blob, headers={"Range": asked}).body == DATA


def test_a_range_of_another_version_gives_the_whole(blob: Blob) -> None:
    assert get(blob, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200
    same = {"Range": "bytes=0-1", "If-Range": f'"{blob.sha256}"'}
    assert get(blob, headers=same).status_code == 206


def test_what_a_browser_has_already_is_not_sent_again(blob: Blob) -> None:
    answer = get(blob, headers={"If-None-Match": f'"x", "{blob.sha256}"'})
    assert answer.status_code == 304
    assert answer["ETag"] == f'"{blob.sha256}"'
    assert get(blob, headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.parametrize("content_type", ["image/tiff", "text/html", "image/svg+xml", "application/json"])
def test_what_browsers_might_run_or_cannot_show_is_only_saved(blob: Blob, content_type: str) -> None:
    assert get(blob, content_type=content_type)["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "image/webp", "text/plain"])
def test_what_browsers_show_safely_is_shown(blob: Blob, content_type: str) -> None:
    assert get(blob, content_type=content_type)["Content-Disposition"].startswith("inline")
    saved = get(blob, content_type=content_type, download=True)
    assert saved["Content-Disposition"].startswith("attachment")


def test_text_says_how_it_is_encoded(blob: Blob) -> None:
    assert get(blob, content_type="text/plain")["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cat.png", 'inline; filename="cat.png"'),
        ('a"b.png', 'inline; filename="a\\"b.png"'),
        ("a\r\nSet-Cookie: x=1.png", 'inline; filename="aSet-Cookie: x=1.png"'),
        ("แมว.png", "inline; filename*=utf-8''%E0%B9%81%E0%B8%A1%E0%B8%A7.png"),
        ("x\u202egnp.exe.png", 'inline; filename="xgnp.exe.png"'),
        ("../../a.png", 'inline; filename="a.png"'),
        ("", 'inline; filename="file"'),
    ],
)
def test_names_are_safe_in_a_header(blob: Blob, name: str, said: str) -> None:
    assert get(blob, name=name)["Content-Disposition"] == said


@given(st.text(max_size=300))
def test_no_name_breaks_the_header(name: str) -> None:
    said = responses._Headers(name, "image/png", False).disposition
    assert said.isascii()
    assert said.isprintable()


def test_thumbnails_named_by_their_digest_are_kept_for_good(blob: Blob) -> None:
    assert "immutable" in get(blob, immutable=True)["Cache-Control"]
    assert "private" in get(blob, immutable=True)["Cache-Control"]
    assert "no-cache" in get(blob)["Cache-Control"]


def test_nginx_sends_the_bytes_where_it_is_told_to(blob: Blob, settings: Any) -> None:
    settings.ACCEL_PREFIX = "/protected/"
    answer = get(blob, headers={"Range": "bytes=0-1"})
    assert answer["X-Accel-Redirect"] == f"/protected/{blob.path}"
    assert answer.body == b""
    assert answer["Content-Disposition"] == 'inline; filename="a.png"'
    assert answer["Content-Type"] == "image/png"


class Bucket:
    """As much of a bucket's storage as serving uses."""

    querystring_auth = True

    def url(self, name: str, parameters: dict[str, str], expire: int) -> str:
        self.asked = parameters
        return f"https://bucket.example/{name}?signed={expire}"

    def open(self, name: str) -> Any:
        raise AssertionError("the bucket sends the bytes")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    fake = Bucket()
    monkeypatch.setattr(responses, "default_storage", fake)
    return fake


def test_a_bucket_sends_its_bytes_itself(blob: Blob, bucket: Bucket) -> None:
    answer = get(blob, download=True, headers={"If-None-Match": f'"{blob.sha256}"'})
    assert answer.status_code == 302
    assert answer["Location"] == f"https://bucket.example/{blob.path}?signed=300"
    assert answer["Cache-Control"] == "no-store"
    assert bucket.asked == {
        "ResponseContentDisposition": 'attachment; filename="a.png"',
        "ResponseContentType": "image/png",
    }


def test_for_clients_that_follow_no_redirect_we_send_what_the_bucket_has(
    blob: Blob, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "open", lambda _name: io.BytesIO(DATA))
    assert get(blob, stream=True).body == DATA


# --- Through the site.


@pytest.fixture
def fetch(client_of: Callable[[User], Client], user: User) -> Callable[..., Any]:
    client = client_of(user)
    return lambda address, **headers: finished(client.get(address, headers=headers))


def test_a_file_is_shown_downloaded_and_revalidated(fetch: Callable[..., Any], user: User) -> None:
    data = picture_bytes()
    address = f"/drive/file/{upload(user, 'cat.jpg', data=data).pk}/content/"
    answer = fetch(address)
    assert answer.body == data
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert fetch(address + "?download")["Content-Disposition"] == 'attachment; filename="cat.jpg"'
    assert fetch(address, **{"If-None-Match": answer["ETag"]}).status_code == 304


def test_a_refused_file_is_never_shown(fetch: Callable[..., Any], user: User) -> None:
    file = upload(user)
    File.objects.update(state="refused")
    assert fetch(f"/drive/file/{file.pk}/content/")["Content-Disposition"].startswith("attachment")


def test_thumbnails(fetch: Callable[..., Any], user: User) -> None:
    file = upload(user)
    address = f"/drive/file/{file.pk}/thumbnail/256/"
    assert fetch(address).status_code == 404
    work.inspect_uploads(user.pk)
    digest = Thumbnail.objects.get().blob_id
    assert "immutable" in fetch(f"{address}?v={digest[:16]}")["Cache-Control"]
    for other in ("", "?v=", "?v=" + digest[:4], "?v=" + "0" * 16):
        assert "immutable" not in fetch(address + other)["Cache-Control"]
    trash.trash(owner=user, chosen=services.select(owner=user, file_ids=[file.pk]))
    assert fetch(address).status_code == 200
    assert fetch(f"/drive/file/{file.pk}/thumbnail/99/").status_code == 404
