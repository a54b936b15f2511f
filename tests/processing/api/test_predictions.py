"""Predictions, jobs and previews over the API. The code of workers runs in this process."""

import base64
import io
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from PIL import Image
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import create_api_key
from drive.files import services as drive
from drive.files import trash
from drive.models import File
from ipau.common.http import concurrency
from ipau.common.http.concurrency import Limiter
from processing.models import Item, Job, JobKind
from processing.serializers import INLINE_MAX_BYTES
from tests.drive.factories import upload
from tests.pictures import picture_bytes
from tests.processing.factories import submit, take_turns, version
from tests.processing.fake_workers import stand_in

pytestmark = pytest.mark.django_db
RUN = "/v1/models/ipau/blackwhite/predictions"


def run(client: APIClient, image: object, *, path: str = RUN, prefer: str = "", **extra: Any) -> Any:
    body = {"input": {"image": str(image), **extra.pop("params", {})}, **extra.pop("body", {})}
    headers = {"Prefer": prefer} if prefer else {}
    return client.post(path, body, format="json", headers={**headers, **extra.pop("headers", {})}, **extra)


def data_uri(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def register_worker(*queues: str) -> None:
    """Register a worker of these queues."""
    stand_in(*queues)


def test_a_prediction_from_start_to_end(user: User, api: Callable[..., APIClient]) -> None:
    client, file = api(user), upload(user, "sea.jpg")
    register_worker("cpu")
    answer = run(client, file.pk, params={"contrast": 20})
    assert answer.status_code == 201
    prediction = answer.json()
    assert (prediction["model"], prediction["version"]) == ("ipau/blackwhite", str(version().pk))
    assert (prediction["status"], prediction["output"], prediction["error"], prediction["logs"]) == (
        "starting",
        None,
        None,
        "",
    )
    assert prediction["input"] == {"image": f"http://testserver/v1/files/{file.pk}", "contrast": 20}
    assert prediction["metrics"] == {}
    assert set(prediction["urls"]) == {"get", "cancel", "web"}

    take_turns(user)
    done = client.get(prediction["urls"]["get"]).json()
    assert done["status"] == "succeeded"
    assert done["metrics"]["predict_time"] > 0
    assert done["created_at"] <= done["started_at"] <= done["completed_at"]
    picture = Image.open(io.BytesIO(base64.b64decode(done["output"].split(",")[1])))
    assert (picture.mode, picture.size) == ("L", (320, 240))
    listed = client.get("/v1/predictions").json()["results"][0]
    content = client.get(listed["output"])
    assert Image.open(io.BytesIO(b"".join(content.streaming_content))).mode == "L"
    canceled = client.post(prediction["urls"]["cancel"])
    assert (canceled.status_code, canceled["Content-Type"]) == (409, "application/problem+json")


@pytest.mark.parametrize(
    "write",
    [
        lambda f: f"http://testserver/v1/files/{f.pk}",
        lambda f: f"http://testserver/v1/files/{f.pk}/content",
        lambda f: f"http://127.0.0.1:8000/v1/files/{f.pk}",
        lambda f: f"/v1/files/{f.pk}",
        lambda f: f"/v1/files/{f.pk}/content",
        lambda f: str(f.pk),
    ],
)
def test_file_references(write: Callable[[File], str], user: User, api: Callable[..., APIClient]) -> None:
    file = upload(user)
    assert run(api(user), write(file)).status_code == 201
    assert Item.objects.get().input_file == file


def test_an_image_in_the_request_is_not_stored_as_a_file(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    prediction = run(client, data_uri(picture_bytes())).json()
    assert prediction["input"]["image"].startswith("sha256:")
    take_turns(user)
    assert client.get(prediction["urls"]["get"]).json()["status"] == "succeeded"
    # The drive has only the result.
    assert [f.folder.name for f in File.objects.filter(owner=user).select_related("folder") if f.folder] == [
        "Predictions"
    ]


@pytest.mark.parametrize("reference", ["{id}", "ipau/blackwhite", "ipau/blackwhite:{id}"])
def test_version_references(reference: str, user: User, api: Callable[..., APIClient]) -> None:
    wanted = reference.format(id=version().pk)
    answer = run(api(user), upload(user).pk, path="/v1/predictions", body={"version": wanted})
    assert (answer.status_code, answer.json()["version"]) == (201, str(version().pk))


def test_several_results_are_returned_by_label(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    prediction = run(client, upload(user).pk, path="/v1/models/ipau/ascii/predictions").json()
    take_turns(user)
    output = client.get(prediction["urls"]["get"]).json()["output"]
    assert output["image"].startswith("data:image/png;base64,")
    assert output["text"].startswith("data:text/plain;base64,")
    # Over TLS, clients treat the URLs as files.
    secure = client.get(prediction["urls"]["get"], secure=True).json()["output"]
    assert secure["image"].startswith("https://testserver/v1/files/")
    # Trashed results are not returned.
    text = File.objects.get(owner=user, name__endswith=".txt")
    trash.trash(owner=user, chosen=drive.select(owner=user, file_ids=[text.pk]))
    assert set(client.get(prediction["urls"]["get"]).json()["output"]) == {"image"}


def test_a_large_result_is_a_url(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    prediction = run(client, upload(user).pk).json()
    take_turns(user)
    File.objects.filter(folder__name="Predictions").update(size=INLINE_MAX_BYTES + 1)
    assert client.get(prediction["urls"]["get"]).json()["output"].startswith("http://")


def test_a_failed_prediction_says_why(user: User, api: Callable[..., APIClient]) -> None:
    whole = picture_bytes(width=800, height=600)
    client = api(user)
    prediction = run(client, upload(user, data=whole[: len(whole) // 2]).pk).json()
    take_turns(user)
    response = client.get(prediction["urls"]["get"]).json()
    assert (response["status"], response["output"]) == ("failed", None)
    assert response["error"] == "This image is damaged: it ends too early."


def test_cancel_twice(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    prediction = run(client, upload(user).pk).json()
    for _ in "12":
        answer = client.post(prediction["urls"]["cancel"])
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert client.get(prediction["urls"]["get"]).json()["logs"] == ""


def test_a_repeated_prediction_is_the_same_one(user: User, api: Callable[..., APIClient]) -> None:
    client, file = api(user), upload(user)
    key = {"Idempotency-Key": "k"}
    first = run(client, file.pk, headers=key)
    assert run(client, file.pk, headers=key).json()["id"] == first.json()["id"]
    assert run(client, file.pk, headers=key, params={"contrast": 1}).status_code == 409
    assert Job.objects.count() == 1


# --- Waiting ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_prefer_wait_delays_the_response_until_the_end(user: User) -> None:
    register_worker("cpu")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {create_api_key(user=user, name='t').secret}")
    file = upload(user)

    def work() -> None:
        try:
            while not Job.objects.exists():
                time.sleep(0.01)
            time.sleep(0.2)
            take_turns(user)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    answer = run(client, file.pk, prefer="wait=20").json()
    thread.join()
    assert answer["status"] == "succeeded"
    assert answer["output"].startswith("data:image/jpeg;base64,")


def test_a_timeout_returns_starting_and_never_processing(
    user: User, api: Callable[..., APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    register_worker("cpu")
    client, file = api(user), upload(user)

    def begin(job: Job, _: float) -> bool:
        Job.objects.filter(pk=job.pk).update(state="processing", started_at=timezone.now())
        return False

    begun = time.monotonic()
    assert run(client, file.pk, prefer="wait=1").json()["status"] == "starting"
    assert 0.9 < time.monotonic() - begun < 3
    monkeypatch.setattr("processing.jobs.predictions._poll", begin)
    prediction = run(client, file.pk, prefer="wait").json()
    assert prediction["status"] == "starting"
    assert client.get(prediction["urls"]["get"]).json()["status"] == "processing"


def test_there_is_no_wait_without_a_worker(user: User, api: Callable[..., APIClient]) -> None:
    begun = time.monotonic()
    answer = run(api(user), upload(user).pk, prefer="wait").json()
    assert time.monotonic() - begun < 2
    assert answer["status"] == "starting"
    assert answer["logs"].startswith("No worker")


def test_waiting_requests_leave_threads_for_others(
    user: User, api: Callable[..., APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    register_worker("cpu")
    limiter = Limiter(total=1, per_person=1)
    monkeypatch.setattr(concurrency, "_limiter", limiter)
    limiter.acquire("another account")
    begun = time.monotonic()
    assert run(api(user), upload(user).pk, prefer="wait").json()["status"] == "starting"
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("", 0),
        ("wait", 60),
        ("wait=5", 5),
        ("WAIT = 5", 5),
        ('wait="5"', 5),
        ("respond-async, wait=7", 7),
        ("wait=600", 60),
        ("wait=0", 0),
        ("wait=soon", 0),
        ("handling=lenient", 0),
    ],
)
def test_prefer(prefer: str, seconds: float) -> None:
    from rest_framework.request import Request
    from rest_framework.test import APIRequestFactory

    from processing.api.predictions import wanted_wait

    assert wanted_wait(Request(APIRequestFactory().get("/", headers={"Prefer": prefer}))) == seconds


# --- Jobs ---------------------------------------------------------------------------------------------


def test_a_job_over_a_folder(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    folder = drive.create_folder(owner=user, parent=None, name="Trip")
    inner = drive.create_folder(owner=user, parent=folder, name="Day 1")
    whole = picture_bytes(width=800, height=600)
    upload(user, "a.jpg", folder=folder, seed=1)
    upload(user, "b.jpg", folder=inner, seed=2)
    upload(user, "broken.jpg", folder=inner, data=whole[: len(whole) // 2])
    results = drive.create_folder(owner=user, parent=None, name="Results")
    body = {
        "model": "ipau/ascii",
        "folder": str(folder.pk),
        "output_folder": str(results.pk),
        "input": {"columns": 40},
    }
    answer = client.post("/v1/jobs", body, format="json", headers={"Idempotency-Key": "j"})
    assert answer.status_code == 201
    job = answer.json()
    assert (job["status"], job["total"], job["done"], job["input"]) == ("starting", 3, 0, {"columns": 40})
    again = client.post("/v1/jobs", body, format="json", headers={"Idempotency-Key": "j"})
    assert again.json()["id"] == job["id"]

    take_turns(user)
    done = client.get(job["urls"]["get"]).json()
    assert (done["status"], done["done"], done["succeeded"], done["failed"]) == ("succeeded", 3, 2, 1)
    assert done["output_folder"] == str(results.pk)
    items = client.get(job["urls"]["items"]).json()["results"]
    assert [item["position"] for item in items] == [0, 1, 2]
    assert sorted(item["status"] for item in items) == ["failed", "succeeded", "succeeded"]
    good = next(item for item in items if item["status"] == "succeeded")
    assert good["output"]["image"] == f"http://testserver/v1/files/{good['output_file']}/content"
    assert good["timings"]["decode"] >= 0
    assert (good["error"], good["reused"], good["attempts"]) == (None, False, 1)
    failed = client.get(job["urls"]["items"] + "?status=failed").json()["results"]
    assert [item["name"] for item in failed] == ["broken.jpg"]
    assert failed[0]["error"] == {
        "code": "truncated",
        "message": "This image is damaged: it ends too early.",
    }
    assert client.get(job["urls"]["items"] + "?status=done").status_code == 422


def test_cancel_a_job(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(2)])
    answer = client.post(f"/v1/jobs/{job.pk}/cancel").json()
    assert (answer["status"], answer["canceled"], answer["done"]) == ("canceled", 2, 2)


def test_lists_need_a_constant_number_of_queries(
    user: User, api: Callable[..., APIClient], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = api(user)
    client.get("/v1/account")
    files = [upload(user, f"{n}.jpg", seed=n) for n in range(4)]
    jobs = [submit(user, files, app="ascii") for _ in range(3)]
    for file in files:
        run(client, file.pk)
    take_turns(user)
    for file in files:
        run(client, file.pk)
    # Each request reads the key. Predictions then need page, items, results and fleet.
    with django_assert_num_queries(5):
        assert len(client.get("/v1/predictions").json()["results"]) == 8
    with django_assert_num_queries(5):
        assert len(client.get("/v1/predictions?limit=5").json()["results"]) == 5
    # Jobs: page and fleet. Items: job, page, results.
    with django_assert_num_queries(3):
        assert len(client.get("/v1/jobs").json()["results"]) == 3
    with django_assert_num_queries(4):
        assert len(client.get(f"/v1/jobs/{jobs[0].pk}/items").json()["results"]) == 4
    assert Job.objects.filter(kind=JobKind.PREDICTION).count() == 8


def test_pages_of_items(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    job = submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(12)])
    page = client.get(f"/v1/jobs/{job.pk}/items?limit=5").json()
    seen = [item["position"] for item in page["results"]]
    while page["next"]:
        page = client.get(page["next"]).json()
        seen += [item["position"] for item in page["results"]]
    assert seen == list(range(12))


def test_hardware_lists_running_workers(user: User, api: Callable[..., APIClient]) -> None:
    client = api(user)
    assert client.get("/v1/hardware").json() == []
    register_worker("cpu", "preview")
    assert client.get("/v1/hardware").json() == [{"sku": "cpu", "name": "CPU"}]
