"""Previews over the API, answered by a real preview worker."""

import base64
import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image
from rest_framework.test import APIClient

from accounts.models import User
from drive.models import File
from processing.models import Job
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.pictures import picture_bytes

pytestmark = [pytest.mark.worker, pytest.mark.django_db(transaction=True)]


def part(width: int = 2000, height: int = 1500) -> SimpleUploadedFile:
    return SimpleUploadedFile("sea.jpg", picture_bytes(width=width, height=height))


def test_previews(
    user: User, api: Callable[..., APIClient], celery_worker: Callable[..., LiveWorker]
) -> None:
    celery_worker(queues="preview")
    client = api(user, ["run"])

    def preview(app: str, body: dict[str, Any], **headers: str) -> Any:
        format = "multipart" if any(hasattr(value, "read") for value in body.values()) else "json"
        return client.post(f"/v1/preview/{app}", body, format=format, headers=headers)

    for app in ("blackwhite", "ascii", "pixelart", "mosaic"):
        answer = preview(app, {"image": part()})
        assert answer.status_code == 200, answer.content
        assert answer["Content-Type"].startswith("image/")
        assert "run;dur=" in answer["Server-Timing"]
        assert max(Image.open(io.BytesIO(answer.content)).size) == 1024

    # The part may have other names, and parameters may be fields or JSON.
    gray = preview(
        "blackwhite", {"file": part(), "finish": "threshold", "threshold": "100", "auto_threshold": "false"}
    )
    assert gray.status_code == 200
    same = preview(
        "blackwhite",
        {"content": part(), "input": '{"finish": "threshold", "threshold": 100, "auto_threshold": false}'},
    )
    assert same.content == gray.content
    wrong = preview("blackwhite", {"image": part(), "threshold": "999"})
    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["threshold"])

    # As JSON, with the text output.
    response = preview("ascii", {"image": part(), "columns": "50"}, Accept="application/json").json()
    assert Image.open(io.BytesIO(base64.b64decode(response["image"]))).width == response["width"]
    assert {len(line) for line in response["texts"]["text"].splitlines()} == {50}
    assert response["timings"]["decode"] > 0

    # A file of the drive by its id, and a data URI. The second response comes from the cache.
    file = upload(user, data=picture_bytes(width=640, height=480, seed=3))
    for body in ({"file": str(file.pk)}, {"image": str(file.pk), "input": {}}):
        answer = preview("pixelart", body)
        assert Image.open(io.BytesIO(answer.content)).size == (640, 480)
    uri = "data:image/jpeg;base64," + base64.b64encode(picture_bytes()).decode()
    begun = time.monotonic()
    assert preview("mosaic", {"image": uri}).status_code == 200
    assert time.monotonic() - begun < 10

    for body in ({}, {"input": {}}, {"image": uri, "file": str(file.pk)}):
        assert preview("mosaic", body).status_code == 422
    assert preview("nothing", {"image": uri}).status_code == 404
    whole = picture_bytes(width=800, height=600)
    broken = preview("ascii", {"image": SimpleUploadedFile("a.jpg", whole[: len(whole) // 2])})
    assert (broken.status_code, broken.json()["detail"]) == (
        422,
        "This image is damaged: it ends too early.",
    )
    # Nothing is stored.
    assert File.objects.count() == 1
    assert not Job.objects.exists()
