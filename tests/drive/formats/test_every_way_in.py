"""Pictures, videos and weights on every way into the drive, and what a worker reports them."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from accounts.models import User
from drive.files import services
from drive.models import File, FileKind, FileState, Thumbnail
from drive.uploads import work
from ipau.common.errors import Invalid
from tests.drive.api.test_uploads import Sender
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.workers.checkpoints.weights_files import onnx_bytes, safetensors_bytes, tensor, torch_bytes
from tests.workers.media.samples import decode, pixels
from tests.workers.media.videos import video_bytes

pytestmark = pytest.mark.django_db

CONTENTS = {
    "jpg": (FileKind.PICTURE, "image/jpeg", picture_bytes("JPEG")),
    "avif": (FileKind.PICTURE, "image/avif", picture_bytes("AVIF")),
    "mp4": (FileKind.VIDEO, "video/mp4", video_bytes("mp4", codec="libx264", sound=True)),
    "mov": (FileKind.VIDEO, "video/quicktime", video_bytes("mov")),
    "webm": (FileKind.VIDEO, "video/webm", video_bytes("webm")),
    "pt": (FileKind.WEIGHTS, "application/octet-stream", torch_bytes()),
    "onnx": (FileKind.WEIGHTS, "application/octet-stream", onnx_bytes()),
    "safetensors": (FileKind.WEIGHTS, "application/octet-stream", safetensors_bytes()),
}
NAMES = ["a.jpg", "a.png", "a.mp4", "a.webm", "a.mov", "a.pt", "a.pth", "a.onnx", "a.safetensors", "a.html"]
HTML = b"<!doctype html><script>alert(1)</script>"


def by_form(user: User, client_of: Callable[..., Client], api: Callable[..., APIClient]) -> Any:
    def send(name: str, data: bytes) -> Any:
        sent = {"file": SimpleUploadedFile(name, data, "image/jpeg"), "folder": ""}
        return client_of(user).post(reverse("drive:upload"), sent, headers={"Accept": "application/json"})

    return send


def by_api(user: User, client_of: Callable[..., Client], api: Callable[..., APIClient]) -> Any:
    def send(name: str, data: bytes) -> Any:
        return api(user).post("/v1/files", {"content": SimpleUploadedFile(name, data)}, format="multipart")

    return send


def by_tus(user: User, client_of: Callable[..., Client], api: Callable[..., APIClient]) -> Any:
    return lambda name, data: Sender(api(user)).at_once(data, filename=name)


WAYS = pytest.mark.parametrize("way", [by_form, by_api, by_tus])


@WAYS
@pytest.mark.parametrize("content", CONTENTS)
def test_each_kind_comes_in_on_each_way(
    way: Any, content: str, user: User, client_of: Callable[..., Client], api: Callable[..., APIClient]
) -> None:
    kind, content_type, data = CONTENTS[content]
    assert way(user, client_of, api)(f"thing.{content}", data).status_code == 201
    file = File.objects.get()
    assert (file.kind, file.content_type, file.name) == (kind, content_type, f"thing.{content}")
    assert (file.size, file.state) == (len(data), FileState.UPLOADED)
    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    assert (file.state, file.reason) == (FileState.READY, "")


@WAYS
@pytest.mark.parametrize("name", NAMES)
def test_what_is_nothing_of_it_is_refused_under_each_name(
    way: Any, name: str, user: User, client_of: Callable[..., Client], api: Callable[..., APIClient]
) -> None:
    answer = way(user, client_of, api)(name, HTML)
    assert answer.status_code == 422
    assert "This file type isn’t supported" in answer.json()["detail"]
    assert not File.objects.exists()


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_kept_and_decides_nothing(name: str, user: User) -> None:
    for kind, content_type, data in CONTENTS.values():
        file = upload(user, name, data=data)
        assert (file.kind, file.content_type) == (kind, content_type)
        assert file.name.startswith("a")
        assert file.name.endswith(name[1:])


@pytest.mark.parametrize("content", CONTENTS)
def test_a_file_without_an_ending_gets_its_own(content: str, user: User) -> None:
    assert upload(user, "thing", data=CONTENTS[content][2]).name == f"thing.{content}"


# --- What a worker tells.


def looked_at(user: User, name: str, data: bytes) -> File:
    file = upload(user, name, data=data)
    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    return file


def test_facts_of_a_video(user: User) -> None:
    data = video_bytes("mp4", 64, 48, codec="libx264", sound=True, rotation=90)
    file = looked_at(user, "film.mp4", data)
    assert (file.width, file.height) == (48, 64)
    assert file.facts == {
        "width": 48,
        "height": 64,
        "codec": "h264",
        "duration": pytest.approx(2.0, abs=0.1),
        "fps": 5.0,
        "sound": "aac",
    }
    for side in (256, 1024):
        poster = decode(work.blobs.read(Thumbnail.objects.get(source=file.blob_id, side=side).blob_id))
        assert (poster.format, poster.size) == ("WEBP", (48, 64))
        # Red was in the upper left; turned counter-clockwise it is in the lower left.
        assert pixels(poster)[-6, 5][0] > 200


def test_a_film_that_cannot_be_decoded_is_kept(user: User) -> None:
    data = video_bytes("mp4", codec="libx264").replace(b"avc1", b"zzz1")
    file = looked_at(user, "film.mp4", data)
    assert (file.state, file.facts) == (FileState.READY, {"duration": 2.0})
    assert not Thumbnail.objects.exists()


def test_a_film_of_huge_frames_is_refused(user: User) -> None:
    file = looked_at(user, "film.mp4", video_bytes("mp4", 8192, 6400, codec="mjpeg", frames=1))
    assert file.state == FileState.REFUSED
    assert file.reason == "The frames of this video are too large: 8192 × 6400 pixels."


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("pt", {"format": "PyTorch", "tensors": 2}),
        ("safetensors", {"format": "safetensors", "tensors": 2, "parameters": 9, "dtypes": ["F16", "F32"]}),
        (
            "onnx",
            {
                "format": "ONNX",
                "tensors": 2,
                "parameters": 10,
                "dtypes": ["FLOAT"],
                "producer": "pytorch 2.13",
                "opset": 17,
                "nodes": 1,
            },
        ),
    ],
)
def test_facts_of_weights(content: str, facts: dict[str, object], user: User) -> None:
    file = looked_at(user, f"model.{content}", CONTENTS[content][2])
    assert (file.state, file.facts, file.width) == (FileState.READY, facts, None)
    assert not Thumbnail.objects.exists()


def test_facts_of_larger_weights(user: User) -> None:
    model = onnx_bytes(tensor(1000, 1000), tensor(10, kind=10))
    assert looked_at(user, "m.onnx", model).facts["parameters"] == 1_000_010
    assert File.objects.get(name="m.onnx").facts["dtypes"] == ["FLOAT", "FLOAT16"]


def test_bytes_that_changed_in_the_storage_are_refused_by_the_worker(user: User) -> None:
    file = upload(user, "model.onnx", data=onnx_bytes())
    path = file.blob.path
    work.default_storage.delete(path)
    work.default_storage.save(path, io.BytesIO(HTML))
    work.inspect_uploads(user.pk)
    file.refresh_from_db()
    assert (file.state, file.reason[:27]) == (FileState.REFUSED, "This file type isn’t suppor")


def test_only_pictures_go_into_jobs(user: User) -> None:
    files = [looked_at(user, f"a.{name}", data) for name, (_, _, data) in CONTENTS.items()]
    chosen = services.select(owner=user, file_ids=[file.pk for file in files])
    assert [f.name for f in services.pictures_in(owner=user, chosen=chosen, limit=99)] == ["a.jpg", "a.avif"]


def test_a_replaced_file_gets_the_kind_of_its_new_bytes(user: User, api: Callable[..., APIClient]) -> None:
    looked_at(user, "a.bin", CONTENTS["mp4"][2])
    sender = Sender(api(user))
    assert sender.at_once(CONTENTS["onnx"][2], filename="a.bin", onConflict="replace").status_code == 201
    work.inspect_uploads(user.pk)
    file = File.objects.get()
    assert (file.kind, file.width, file.facts["format"]) == (FileKind.WEIGHTS, None, "ONNX")


def test_an_empty_file_is_refused(user: User) -> None:
    with pytest.raises(Invalid, match="empty"):
        upload(user, "a.pt", data=b"")
