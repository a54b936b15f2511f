"""Pipelines over the API: create, change, share, preview and run."""

from collections.abc import Callable
from typing import Any

import pytest
import replicate
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import User
from accounts.services import create_api_key
from drive.files.services import create_folder
from market.models import Listing, Visibility
from processing.models import Job
from tests.drive.factories import upload
from tests.live import LiveWorker
from tests.market.pipelines.factories import pipeline
from tests.pictures import picture_bytes

pytestmark = pytest.mark.django_db
BODY: dict[str, Any] = {
    "title": "Night comic",
    "summary": "Gray blocks.",
    "steps": [
        {"operation": "pixelart", "params": {"block": 9}},
        {"operation": "blackwhite"},
    ],
}


@pytest.fixture
def client(user: User, api: Callable[..., APIClient]) -> APIClient:
    return api(user)


def test_a_pipeline_is_created_read_changed_and_deleted(client: APIClient, user: User) -> None:
    answer = client.post("/v1/pipelines", BODY, format="json")
    saved = answer.json()
    assert answer.status_code == 201
    assert (saved["owner"], saved["name"], saved["visibility"]) == (
        user.handle,
        "night-comic",
        "private",
    )
    assert [step["name"] for step in saved["steps"]] == ["pixelart", "blackwhite"]
    assert saved["steps"][0]["params"]["block"] == 9
    assert saved["url"].endswith(f"/apps/{user.handle}/night-comic/")
    path = f"/v1/pipelines/{user.handle}/night-comic"
    assert client.get(path).json() == saved
    assert client.get("/v1/pipelines").json()["results"] == [saved]
    steps = [*BODY["steps"], {"operation": "pixelart", "params": {"block": 20}}]
    changed = client.patch(path, {"steps": steps, "visibility": "public"}, format="json").json()
    assert (changed["version"]["number"], changed["visibility"]) == (2, "public")
    assert (changed["title"], changed["steps"][2]["name"]) == ("Night comic", "pixelart2")
    renamed = client.patch(path, {"name": "dawn"}, format="json").json()
    assert (renamed["name"], renamed["version"]["number"]) == ("dawn", 2)
    assert client.get(path).status_code == 404
    assert client.delete(f"/v1/pipelines/{user.handle}/dawn").status_code == 204
    assert client.get("/v1/pipelines").json()["results"] == []


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"title": None}, 422, "title"),
        ({"title": "x" * 101}, 422, "title"),
        ({"name": "new"}, 422, "name"),
        ({"name": "taken"}, 409, "name"),
        ({"steps": []}, 422, "steps"),
        ({"steps": [{"operation": "ascii"}] * 17}, 422, "steps"),
        ({"steps": [{"operation": "ghost"}]}, 422, "ghost"),
        ({"steps": [{"operation": "blackwhite", "params": {"contrast": 900}}]}, 422, "blackwhite.contrast"),
        ({"steps": [{"operation": "blackwhite", "color": 1}]}, 422, "steps"),
        ({"steps": "blackwhite"}, 422, "steps"),
        ({"visibility": "friends"}, 422, "visibility"),
        ({"owner": "me"}, 422, "owner"),
    ],
)
def test_bad_input_is_named_and_nothing_is_created(
    change: dict[str, Any], status: int, field: str, client: APIClient, user: User
) -> None:
    pipeline(user, name="taken")
    answer = client.post("/v1/pipelines", {**BODY, **change}, format="json")
    assert (answer.status_code, list(answer.json()["errors"])) == (status, [field])
    assert Listing.objects.filter(owner=user).count() == 1


def test_a_repeated_request_creates_one_pipeline(client: APIClient) -> None:
    def post(body: dict[str, Any]) -> Any:
        return client.post("/v1/pipelines", body, format="json", headers={"Idempotency-Key": "k"})

    first, again = post(BODY), post(BODY)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert post({**BODY, "title": "Other"}).status_code == 409
    assert len(client.get("/v1/pipelines").json()["results"]) == 1


def test_a_private_folder_keeps_a_pipeline_private(client: APIClient, user: User) -> None:
    folder = create_folder(owner=user, parent=None, name="Tiles")
    steps = [{"operation": "mosaic", "params": {"tiles": str(folder.pk)}}]
    body = {**BODY, "steps": steps, "visibility": "public"}
    answer = client.post("/v1/pipelines", body, format="json")
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["mosaic.tiles"])


def test_other_accounts_can_run_but_not_change_a_shared_pipeline(
    user: User, other_user: User, api: Callable[..., APIClient]
) -> None:
    pipeline(user, visibility=Visibility.PUBLIC)
    stranger = api(other_user)
    path = f"/v1/pipelines/{user.handle}/night-comic"
    assert stranger.get(path).json()["title"] == "Night comic"
    assert stranger.patch(path, {"title": "Mine"}, format="json").status_code == 404
    assert stranger.delete(path).status_code == 404
    assert stranger.get("/v1/pipelines").json()["results"] == []
    rows = stranger.get("/v1/models?q=night").json()["results"]
    assert [(row["owner"], row["name"], row["kind"]) for row in rows] == [
        (user.handle, "night-comic", "pipeline")
    ]
    job = stranger.post(
        "/v1/jobs",
        {
            "model": f"{user.handle}/night-comic",
            "files": [str(upload(other_user).pk)],
            "input": {"pixelart.block": 14, "blackwhite.finish": "dither"},
        },
        format="json",
    )
    assert job.status_code == 201
    steps = Job.objects.get().recipe["steps"]
    assert (steps[0]["params"]["block"], steps[1]["params"]["finish"]) == (14, "dither")
    wrong = {"image": str(upload(other_user).pk), "pixelart.size": 1}
    answer = stranger.post(
        f"/v1/models/{user.handle}/night-comic/predictions", {"input": wrong}, format="json"
    )
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["pixelart.size"])


def test_it_has_an_input_schema(client: APIClient, user: User) -> None:
    pipeline(user, "ascii", "ascii")
    model = client.get(f"/v1/models/{user.handle}/night-comic").json()
    schemas = model["latest_version"]["openapi_schema"]["components"]["schemas"]
    assert schemas["Input"]["required"] == ["image"]
    assert {"ascii.columns", "ascii2.columns"} < set(schemas["Input"]["properties"])
    assert set(schemas["Output"]["properties"]) == {"image", "text", "text2"}


def test_the_list_needs_a_constant_number_of_queries(
    client: APIClient, user: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    pipeline(user)
    client.get("/v1/account")
    for _ in range(2):
        with django_assert_num_queries(4):  # the key, the page, the versions, their models
            client.get("/v1/pipelines")
        pipeline(user, "ascii")
        pipeline(user, "mosaic")


@pytest.mark.worker
def test_previews_and_predictions_of_a_pipeline_with_replicates_client(
    transactional_db: None,
    live_server: Any,
    user: User,
    celery_worker: Callable[..., LiveWorker],
    monkeypatch: pytest.MonkeyPatch,
    api: Callable[..., APIClient],
) -> None:
    celery_worker()
    pipeline(user, ("pixelart", {"block": 40}), ("ascii", {"columns": 20}))
    client = api(user)
    file = upload(user, data=picture_bytes("PNG"))
    sent = {"file": str(file.pk), "ascii.columns": "30"}
    answer = client.post(
        f"/v1/preview/{user.handle}/night-comic", sent, headers={"Accept": "application/json"}
    )
    assert answer.status_code == 200, answer.content
    assert len(answer.json()["texts"]["text"].splitlines()[0]) == 30
    assert client.post(f"/v1/preview/{user.handle}/nothing", sent).status_code == 404
    monkeypatch.setenv("REPLICATE_BASE_URL", live_server.url)
    key = create_api_key(user=user, name="client").secret
    replicating = replicate.Client(api_token=key)
    output = replicating.run(
        f"{user.handle}/night-comic",
        input={"image": f"{live_server.url}/v1/files/{file.pk}", "ascii.columns": 25, "pixelart.block": 8},
    )
    replicating._client.close()
    assert len(output["text"].read().decode().splitlines()[0]) == 25
    steps = Job.objects.get().recipe["steps"]
    assert (steps[0]["params"]["block"], steps[1]["params"]["columns"]) == (8, 25)
