"""Detection over the API: choice of the model, and forms of the response."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image
from rest_framework.test import APIClient

from accounts.models import User
from market.models import Listing, Version
from processing.previews import tasks as previews_tasks
from processing.previews import work as previews_work
from tests.drive.factories import upload
from tests.market.factories import Marks, MarksParams, model
from tests.pictures import picture_bytes
from tests.processing.fake_workers import stand_in
from workers import registry
from workers.plugin import Context, PictureView, Result, choice

pytestmark = pytest.mark.django_db


# Arguments of a preview request.
sent: list[Any] = []


class ChoiceParams(MarksParams):
    result: Literal["draw", "data"] = choice(
        "draw", labels={"draw": "Picture", "data": "Data only"}, title="Result", help="What comes of it."
    )


class Chosen(Marks):
    """The test family with the parameter `result` of real detectors."""

    Params = ChoiceParams

    def run(self, picture: PictureView, params: MarksParams, context: Context) -> Result:
        assert isinstance(params, ChoiceParams)
        made = super().run(picture, params, context)
        return made if params.result == "draw" else replace(made, image=None)


@pytest.fixture(autouse=True)
def _previews(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the code of preview workers in this process, which has the test family."""

    sent.clear()

    def send(*request: Any) -> bool:
        sent.append(request)
        previews_work.make_preview(*request)
        return True

    stand_in("preview")
    monkeypatch.setattr(previews_tasks, "send_preview", send)
    with registry.register(Chosen()):
        yield


def part() -> SimpleUploadedFile:
    return SimpleUploadedFile("sea.jpg", picture_bytes(width=1600, height=800))


@pytest.fixture
def detect(user: User, api: Callable[..., APIClient]) -> Callable[..., Any]:
    client = api(user, ["run"])

    def post(form: str = "detect", **fields: Any) -> Any:
        return client.post(f"/v1/preview/{form}", {"image": part(), **fields})

    return post


def test_three_forms_return_the_same_detections(user: User, detect: Callable[..., Any]) -> None:
    model(user)
    response = detect("detect-to-json")
    assert response.status_code == 200, response.content
    assert response.json()["image"] == {"width": 1600, "height": 800}
    first = response.json()["predictions"][0]
    assert (first["class"], first["x"], first["y"], first["confidence"]) == ("cat", 800, 400, 0.9)
    drawn = detect("detect")
    assert Image.open(io.BytesIO(drawn.content)).size == (1024, 512)
    inside = detect("detect-to-img").json()
    assert base64.b64decode(inside["image"]) == drawn.content
    assert (inside["content_type"], inside["width"]) == (drawn["Content-Type"], 1024)


def test_each_form_returns_its_output(user: User, detect: Callable[..., Any]) -> None:
    model(user)
    for form in ("detect", "detect-to-img"):
        assert "detect-to-json" in names_of(detect(form, result="data"))["result"]
    # Only the data are computed, for any value of `result`.
    assert detect("detect-to-json", result="draw").json()["predictions"]
    results = [made[3]["steps"][0]["params"]["result"] for made in sent]
    assert results == ["data"]
    assert "result" in names_of(detect("detect-to-json", result="sculpture"))


def test_parameters_and_a_file_of_the_drive(user: User, api: Callable[..., APIClient]) -> None:
    model(user)
    body = {"image": str(upload(user).pk), "input": {"confidence": 0.5}}
    response = api(user).post("/v1/preview/detect-to-json", body, format="json").json()
    assert [found["class"] for found in response["predictions"]] == ["cat"]


def names_of(answer: Any) -> Mapping[str, str]:
    errors: Mapping[str, str] = answer.json()["errors"]
    assert answer.status_code == 422
    return errors


def test_the_default_model(user: User, other_user: User, detect: Callable[..., Any]) -> None:
    assert "no detector yet" in names_of(detect())["model"]
    model(other_user, "secret")
    assert "no detector yet" in names_of(detect())["model"]
    model(user, "first")
    assert detect().status_code == 200
    model(other_user, "open", publish=True, sure=(99, 1), classes=["fox", "owl"])
    assert "several detectors" in names_of(detect())["model"]
    named = detect("detect-to-json", model=f"{other_user.handle}/open").json()
    assert named["predictions"][0]["class"] == "fox"
    # The detector of the site has priority.
    platform = User.objects.get(handle="ipau")
    model(platform, "finder", publish=True, sure=(80, 80), classes=["bee", "ant"])
    assert {found["class"] for found in detect("detect-to-json").json()["predictions"]} == {"bee", "ant"}
    # Detectors of plain boxes have priority among these.
    model(platform, "outliner", task="segment", publish=True, sure=(10, 90), classes=["elk", "cow"])
    assert {found["class"] for found in detect("detect-to-json").json()["predictions"]} == {"bee", "ant"}
    assert detect(model=f"{other_user.handle}/secret").status_code == 404


def test_other_models_are_refused(user: User, detect: Callable[..., Any]) -> None:
    model(user, "painter", task="image")
    assert "no detector yet" in names_of(detect())["model"]
    assert "not a detector" in names_of(detect(model=f"{user.handle}/painter"))["model"]
    assert "not a detector" in names_of(detect(model="ipau/mosaic"))["model"]


def test_the_newest_version_runs(user: User, detect: Callable[..., Any]) -> None:
    model(user, "finder", sure=(90, 90))
    model(user, "finder", sure=(90, 10))
    assert Version.objects.filter(listing=Listing.objects.get(name="finder")).count() == 2
    assert [found["class"] for found in detect("detect-to-json").json()["predictions"]] == ["cat"]


def test_the_page_shows_image_and_data(user: User, client_of: Callable[[User], Client]) -> None:
    model(user)
    client, file = client_of(user), upload(user, data=picture_bytes(width=640, height=480))
    address = f"/apps/{user.handle}/finder/"
    page = client.get(address).content.decode()
    assert 'id="found"' in page
    assert 'id="found-picture"' in page
    assert 'href="/models/"' in page
    sent = {"file": str(file.pk), "confidence": "0.5"}
    assert client.post(f"{address}preview/", sent)["Content-Type"].startswith("image/")
    response = client.post(f"{address}preview/", {**sent, "output": "data"}).json()
    assert [found["class"] for found in response["predictions"]] == ["cat"]
    # Without JavaScript, the page contains both.
    plain = client.post(f"{address}preview/", {**sent, "page": "1"}).content.decode()
    assert "data:image/jpeg;base64," in plain
    assert "&quot;class&quot;: &quot;cat&quot;" in plain
    # Apps without data have no such panel.
    assert 'id="found"' not in client.get("/apps/ipau/mosaic/").content.decode()
    none = client.post("/apps/ipau/mosaic/preview/", {"file": str(file.pk), "output": "data"})
    assert none.status_code == 422


@pytest.mark.parametrize(("scale", "says"), [(2, True), (1, False)])
def test_the_page_says_that_a_job_enlarges_the_full_image(
    user: User, client_of: Callable[[User], Client], scale: int, says: bool
) -> None:
    model(user, "larger", task="image", scale=scale)
    page = client_of(user).get(f"/apps/{user.handle}/larger/").content.decode()
    assert ("enlarges the full image 2 times" in page) is says
