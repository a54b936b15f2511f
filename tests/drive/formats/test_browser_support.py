"""Videos and weights on the pages: icons, facts, and how their bytes are sent."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from drive.files import services, trash
from drive.models import File
from drive.shares import services as shares
from drive.uploads import work
from tests.drive.factories import upload
from tests.drive.formats.test_every_way_in import CONTENTS
from tests.workers.media.videos import video_bytes
from tests.workers.sanitize.test_videos import SECRET, TOLD

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(client_of: Callable[[User], Client], user: User) -> Client:
    return client_of(user)


@pytest.fixture
def files(user: User) -> dict[str, File]:
    """One file of each kind, looked at by a worker."""
    found = {name: upload(user, f"a.{name}", data=data) for name, (_, _, data) in CONTENTS.items()}
    work.inspect_uploads(user.pk)
    for file in found.values():
        file.refresh_from_db()
    return found


def page_of(client: Client, name: str, *args: object, **query: str) -> str:
    answer = client.get(reverse(name, args=args), query)
    assert answer.status_code == 200
    return answer.content.decode()


def look_of(page: str, file: File) -> str:
    start = page.index(f'id="look-{file.pk}"')
    return page[start : page.index("</li>", start)]


def body(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_tiles_have_icons_and_posters(client: Client, files: dict[str, File]) -> None:
    page = page_of(client, "drive:root")
    for name in ("pt", "onnx", "safetensors"):
        look = look_of(page, files[name])
        assert "#stack-2" in look
        assert "Weights" in look
        assert "<img" not in look
    for name in ("mp4", "mov", "webm"):
        look = look_of(page, files[name])
        assert "<img" in look
        assert "#movie" in look
        assert "0:02" in look
    assert "#movie" not in look_of(page, files["jpg"])


def test_a_video_without_poster_has_an_icon(client: Client, user: User) -> None:
    file = upload(user, "odd.mp4", data=video_bytes("mp4", codec="libx264").replace(b"avc1", b"zzz1"))
    work.inspect_uploads(user.pk)
    look = look_of(page_of(client, "drive:root"), file)
    assert "#movie" in look
    assert "<img" not in look
    assert "poster=" not in page_of(client, "drive:file", file.pk)


def test_a_video_is_played_from_our_own_address(client: Client, files: dict[str, File]) -> None:
    page = page_of(client, "drive:file", files["mp4"].pk)
    assert "<video" in page
    assert f'<source src="{reverse("drive:content", args=[files["mp4"].pk])}" type="video/mp4">' in page
    assert 'preload="metadata"' in page
    assert f'poster="{reverse("drive:thumbnail", args=[files["mp4"].pk, 1024])}"' in page
    facts = page[page.index("<aside") :]
    for text in ("Duration", "0:02", "Codec", "h264", "Frames/s", "Sound", "aac", "64 × 48"):
        assert text in facts
    policy = client.get(reverse("drive:root"))["Content-Security-Policy"]
    assert "media-src 'self'" in policy


def test_weights_show_a_table_of_facts(client: Client, files: dict[str, File]) -> None:
    page = page_of(client, "drive:file", files["onnx"].pk)
    table = page[page.index("<table") : page.index("</table>")]
    for text in ("ONNX", "Parameters", "10", "FLOAT", "Opset", "17", "pytorch 2.13", "Nodes"):
        assert text in table
    assert "safetensors" in page_of(client, "drive:file", files["safetensors"].pk)
    assert "<video" not in page


@pytest.mark.parametrize("name", ["mp4", "pt", "onnx"])
def test_apps_are_offered_for_pictures_only(name: str, client: Client, files: dict[str, File]) -> None:
    assert "Run app" in page_of(client, "drive:file", files["jpg"].pk)
    assert "Run app" not in page_of(client, "drive:file", files[name].pk)


def test_facts_are_escaped(client: Client, files: dict[str, File]) -> None:
    File.objects.filter(pk=files["onnx"].pk).update(facts={"producer": "<script>alert(1)</script>"})
    assert "<script>alert(1)" not in page_of(client, "drive:file", files["onnx"].pk)


def test_weights_are_only_ever_saved(client: Client, files: dict[str, File]) -> None:
    for name in ("pt", "onnx", "safetensors"):
        answer = client.get(reverse("drive:content", args=[files[name].pk]))
        assert answer["Content-Disposition"].startswith("attachment")
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert body(answer) == CONTENTS[name][2]


@pytest.mark.parametrize("name", ["mp4", "mov", "webm"])
def test_videos_are_sent_in_parts(name: str, client: Client, files: dict[str, File]) -> None:
    url, data = reverse("drive:content", args=[files[name].pk]), CONTENTS[name][2]
    whole = client.get(url)
    assert whole["Content-Disposition"].startswith("inline")
    assert (whole["Content-Type"], whole["Accept-Ranges"]) == (CONTENTS[name][1], "bytes")
    assert body(whole) == data
    part = client.get(url, headers={"Range": "bytes=100-199"})
    assert (part.status_code, body(part)) == (206, data[100:200])
    saved = client.get(url + "?download")
    assert saved["Content-Disposition"].startswith("attachment")
    assert body(saved) == data


@pytest.mark.parametrize(("kind", "count"), [("picture", 2), ("video", 3), ("weights", 3)])
def test_a_search_finds_each_kind(kind: str, count: int, client: Client, files: dict[str, File]) -> None:
    page = page_of(client, "drive:search", kind=kind)
    assert page.count('class="drive-tile drive-file"') == count


def test_the_archive_has_them_all(client: Client, files: dict[str, File]) -> None:
    answer = client.get(reverse("drive:download"), {"file": [str(file.pk) for file in files.values()]})
    data = body(answer)
    assert int(answer["Content-Length"]) == len(data)
    for _kind, _type, content in CONTENTS.values():
        assert content in data


def test_the_trash_has_icons(client: Client, user: User, files: dict[str, File]) -> None:
    chosen = services.select(owner=user, file_ids=[files["onnx"].pk])
    trash.trash(owner=user, chosen=chosen)
    assert "#stack-2" in page_of(client, "drive:trash")


def test_a_shared_link_has_the_icon_of_its_file(client: Client, user: User, files: dict[str, File]) -> None:
    shares.create_share(owner=user, file_id=files["mp4"].pk)
    assert "#movie" in page_of(client, "drive:shared")


# --- What visitors of a link get.


def shared(user: User, name: str, data: bytes) -> tuple[File, Callable[..., str]]:
    file = upload(user, name, data=data)
    work.inspect_uploads(user.pk)
    token = shares.create_share(owner=user, file_id=file.pk).token
    return file, lambda view="enter", **named: reverse(f"share:{view}", kwargs={"token": token, **named})


@pytest.mark.parametrize("format", ["mp4", "mov", "webm"])
def test_visitors_get_videos_without_places_in_parts(format: str, user: User) -> None:
    data = video_bytes(format, sound=True, metadata=TOLD)
    file, url = shared(user, f"film.{format}", data)
    page = Client().get(url()).content.decode()
    address = url("content", file_id=file.pk)
    assert "<video" in page
    assert f'<source src="{address}"' in page
    whole = Client().get(address)
    sent = body(whole)
    assert (whole["Accept-Ranges"], int(whole["Content-Length"])) == ("bytes", len(data))
    assert SECRET in data
    assert SECRET not in sent
    part = Client().get(address, headers={"Range": "bytes=50-149", "If-Range": whole["ETag"]})
    assert (part.status_code, part["Content-Range"]) == (206, f"bytes 50-149/{len(data)}")
    assert body(part) == sent[50:150]
    assert Client().get(address, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    assert body(Client().get(address, {"download": ""})) == sent


def test_what_cannot_be_cleaned_of_a_video_is_not_handed_out(user: User) -> None:
    data = video_bytes("mp4", sound=True, options={"movflags": "frag_keyframe+empty_moov"})
    at = data.rindex(b"soun")
    file, url = shared(user, "drone.mp4", data[:at] + b"meta" + data[at + 4 :])
    answer = Client().get(url("content", file_id=file.pk), {"download": ""})
    assert answer.status_code == 422
    assert "may contain a location" in answer.content.decode()


def test_visitors_see_the_facts_of_weights_and_may_save_them(user: User) -> None:
    file, url = shared(user, "model.onnx", CONTENTS["onnx"][2])
    page = Client().get(url()).content.decode()
    assert "Opset" in page
    answer = Client().get(url("content", file_id=file.pk), {"download": ""})
    assert answer["Content-Disposition"].startswith("attachment")
    assert body(answer) == CONTENTS["onnx"][2]
