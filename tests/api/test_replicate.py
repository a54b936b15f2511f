"""The unmodified Replicate client against a real server and a real worker."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import replicate
from PIL import Image
from pytest_django.live_server_helper import LiveServer
from replicate.exceptions import ReplicateError

from accounts.models import User
from accounts.services import create_api_key
from tests.live import LiveWorker
from tests.pictures import picture_bytes

pytestmark = pytest.mark.worker


@pytest.fixture
def client(
    transactional_db: None, live_server: LiveServer, user: User, monkeypatch: pytest.MonkeyPatch
) -> Iterator[replicate.Client]:
    monkeypatch.setenv("REPLICATE_BASE_URL", live_server.url)
    key = create_api_key(user=user, name="test")
    result = replicate.Client(api_token=key.secret)
    yield result
    result._client.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "sea.jpg"
    path.write_bytes(picture_bytes(width=320, height=200))
    return path


def test_run_returns_the_bytes_of_the_image(
    client: replicate.Client, celery_worker: Callable[..., LiveWorker], picture: Path
) -> None:
    celery_worker()
    with picture.open("rb") as opened:
        output = client.run("ipau/blackwhite", input={"image": opened})
    result = Image.open(io.BytesIO(output.read()))
    assert (result.format, result.mode, result.size) == ("JPEG", "L", (320, 200))

    # An app with two results returns both by label. An unnamed stream and a data URI are valid inputs.
    both = client.run("ipau/ascii", input={"image": io.BytesIO(picture.read_bytes()), "columns": 40})
    assert Image.open(io.BytesIO(both["image"].read())).format == "PNG"
    lines = both["text"].read().decode().splitlines()
    assert {len(line) for line in lines} == {40}

    with picture.open("rb") as opened:
        inline = client.run(
            "ipau/pixelart", input={"image": opened}, file_encoding_strategy="base64", wait=False
        )
    assert Image.open(io.BytesIO(inline.read())).size == (320, 200)


def test_versions_and_predictions(
    client: replicate.Client, celery_worker: Callable[..., LiveWorker], picture: Path
) -> None:
    celery_worker()
    model = client.models.get("ipau/blackwhite")
    version = model.latest_version
    assert version is not None
    assert [v.id for v in model.versions.list()] == [version.id]
    assert "image" in version.openapi_schema["components"]["schemas"]["Input"]["properties"]
    file = client.files.create(picture)

    output = client.run(f"ipau/blackwhite:{version.id}", input={"image": file.urls["get"]})
    assert Image.open(io.BytesIO(output.read())).size == (320, 200)

    # Other parameters: the same ones would reuse the earlier result.
    prediction = client.predictions.create(version=version.id, input={"image": file.id, "contrast": 5})
    assert prediction.status == "starting"
    prediction.wait()
    assert prediction.status == "succeeded"
    assert prediction.metrics is not None
    assert prediction.metrics["predict_time"] > 0
    listed = client.predictions.list()
    assert listed[0].id == prediction.id
    assert len(listed) == 2
    assert listed[0].output.startswith("http://")
    assert client.predictions.get(prediction.id).output.startswith("data:image/jpeg;base64,")


def test_a_damaged_image_fails_the_prediction_with_a_sentence(
    client: replicate.Client, celery_worker: Callable[..., LiveWorker], picture: Path
) -> None:
    celery_worker()
    whole = picture_bytes(width=800, height=600)
    picture.write_bytes(whole[: len(whole) // 2])
    with picture.open("rb") as opened, pytest.raises(replicate.exceptions.ModelError) as caught:
        client.run("ipau/blackwhite", input={"image": opened})
    assert str(caught.value) == "This image is damaged: it ends too early."


def test_without_a_worker(client: replicate.Client, picture: Path) -> None:
    """Files, models and waiting predictions need no worker."""
    assert client.accounts.current().type == "user"
    assert client.hardware.list() == []
    file = client.files.create(picture, metadata={"from": "a test"})
    assert (file.name, file.content_type, file.metadata) == ("sea.jpg", "image/jpeg", {"from": "a test"})
    assert client.files.get(file.id).checksums == file.checksums
    assert [f.id for f in client.files.list()] == [file.id]
    names = {m.id for m in client.models.list()}
    assert {"ipau/blackwhite", "ipau/ascii", "ipau/pixelart", "ipau/mosaic"} <= names
    assert [m.name for m in client.models.search("ascii")] == ["ascii"]

    waiting = client.predictions.create(
        version="ipau/blackwhite", input={"image": file.urls["get"]}, wait=True
    )
    assert waiting.status == "starting"
    assert waiting.logs is not None
    assert "No worker" in waiting.logs
    waiting.cancel()
    assert waiting.status == "canceled"
    assert client.files.delete(file.id)
    assert client.files.list() == []


def test_errors_have_a_sentence(client: replicate.Client, picture: Path) -> None:
    with picture.open("rb") as opened, pytest.raises(ReplicateError) as caught:
        client.run("ipau/ascii", input={"image": opened, "columns": 4000})
    assert caught.value.status == 422
    assert caught.value.detail == "Columns must be at most 400."
    with pytest.raises(ReplicateError) as caught:
        client.run("ipau/nothing", input={"image": "x"})
    assert caught.value.status == 404
    with pytest.raises(ReplicateError) as caught:
        client.run("ipau/ascii", input={"image": "https://example.org/a.jpg"})
    assert "not fetched" in (caught.value.detail or "")
