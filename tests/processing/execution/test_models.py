"""Models (versions with weights in their recipe) in jobs and previews, read from the storage."""

import json
from collections.abc import Callable, Iterator

import pytest
from django.core.files.storage import default_storage
from rest_framework.test import APIClient

from accounts.models import User
from drive.models import Blob, File, FileKind
from drive.storage import blobs
from ipau.common.errors import Invalid
from market.listings.io_schema import openapi_of
from market.pipelines.steps import check_steps
from processing.execution import model_files, work
from processing.execution.model_files import StoredModel
from processing.jobs.prepare import prepare
from processing.models import Item, State
from processing.previews import channel
from processing.previews import work as previews_work
from tests.drive.factories import upload
from tests.market.factories import marks, model
from tests.pictures import picture_bytes
from tests.processing.factories import submit_version, take_turns
from workers.bundle import FACTS, GRAPH, WEIGHTS
from workers.recipe import Step

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


def test_model_job_creates_image_and_json(user: User) -> None:
    version = model(user)
    picture = upload(user, "sea.jpg", data=picture_bytes(width=640, height=480))
    job = submit_version(user, version, [picture])
    take_turns(user)
    item = Item.objects.get(job=job)
    assert item.state == State.SUCCEEDED, item.error
    found = item.output
    assert found["image"] == {"width": 640, "height": 480}
    assert [(p["class"], p["confidence"], p["x"]) for p in found["predictions"]] == [
        ("cat", 0.9, 320),
        ("dog", 0.4, 320),
    ]
    files = {file.name: file for file in File.objects.filter(folder=job.output_folder)}
    assert set(files) == {"sea.jpg", "sea.json"}
    written = files["sea.json"]
    assert (written.kind, written.content_type) == (FileKind.TEXT, "application/json")
    assert json.loads(blobs.read(written.blob_id)) == found


def test_reused_result_includes_its_json(user: User) -> None:
    version, picture = model(user), upload(user)
    first = submit_version(user, version, [picture])
    take_turns(user)
    again = submit_version(user, version, [picture])
    take_turns(user)
    item = Item.objects.get(job=again)
    assert item.reused
    assert item.output == Item.objects.get(job=first).output
    assert item.outputs.count() == 2


def test_parameters_and_weights_change_the_cache_key(user: User) -> None:
    sure, unsure = model(user, "sure"), model(user, "unsure", sure=(10, 5))
    picture = upload(user)
    strict = submit_version(user, sure, [picture], params={"confidence": "0.5"})
    none = submit_version(user, unsure, [picture])
    take_turns(user)
    assert [p["class"] for p in Item.objects.get(job=strict).output["predictions"]] == ["cat"]
    assert Item.objects.get(job=none).output["predictions"] == []
    keys = {prepare(owner=user, version=v, params={}).fingerprint for v in (sure, unsure)}
    assert len(keys) == 2


def test_preview_uses_coordinates_of_the_original(user: User) -> None:
    recipe = prepare(owner=user, version=model(user), params={}).recipe
    answer = previews_work._preview(recipe, picture_bytes(width=2048, height=1024), {})
    assert answer.error == ""
    assert (answer.width, answer.height) == (1024, 512)
    assert answer.data["image"] == {"width": 2048, "height": 1024}
    assert answer.data["predictions"][0]["x"] == 1024
    # Data are not part of the text: pages request them separately.
    assert answer.texts == {}
    assert channel.Answer(**vars(answer)) == answer


def test_a_model_reads_its_files_by_their_digests(user: User) -> None:
    weights = model(user).weights
    read = StoredModel(weights.digest)
    assert read.facts["classes"] == ["cat", "dog"]
    assert read.read(GRAPH) == bytes((90, 40))
    assert read.read(WEIGHTS).startswith(b"weights of ")
    assert json.loads(read.read(FACTS)) == read.facts
    for name in ("other", "../model.onnx", ""):
        with pytest.raises(FileNotFoundError):
            read.read(name)


def test_missing_model_bytes_are_retried_and_reported(user: User) -> None:
    version = model(user, sure=(77, 66))
    model_files._facts.cache_clear()
    default_storage.delete(Blob(sha256=version.weights.digest).path)
    job = submit_version(user, version, [upload(user)])
    work.take_turn(user.pk, "cpu")
    item = Item.objects.get(job=job)
    assert (item.state, item.attempts, item.error_code) == (State.PROCESSING, 1, "storage")


def test_family_without_weights_is_not_a_valid_step(user: User) -> None:
    with pytest.raises(Invalid, match="there is no app “marks”"):
        check_steps([Step(operation="marks")])


def test_model_description_lists_outputs(user: User) -> None:
    version = model(user)
    schemas = openapi_of(version)["components"]["schemas"]
    assert set(schemas["Output"]["properties"]) == {"image", "detections"}
    assert set(schemas["Input"]["properties"]) == {"image", "confidence"}


def test_item_includes_detections(user: User, api: Callable[..., APIClient]) -> None:
    job = submit_version(user, model(user), [upload(user)])
    take_turns(user)
    item = api(user).get(f"/v1/jobs/{job.pk}/items").json()["results"][0]
    assert item["output"]["detections"]["predictions"][0]["class"] == "cat"
    assert item["output"]["image"].endswith("/content")


def test_unknown_class_is_refused_before_the_job_runs(user: User) -> None:
    version = model(user)
    version.recipe["steps"][-1].update(operation="yolo", params={})
    for known in ("", "cat", "DOG, #0", ["cat", 1]):
        assert prepare(owner=user, version=version, params={"classes": known}).recipe
    for unknown in ("bus", "cat, bus", ["cat", "bus"], ["cat, bus"], [2]):
        with pytest.raises(Invalid, match="Its classes: cat, dog") as caught:
            prepare(owner=user, version=version, params={"classes": unknown})
        assert caught.value.code == "unknown_class"
        assert list(caught.value.fields) == ["classes"]
