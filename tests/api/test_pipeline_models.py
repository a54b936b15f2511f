"""Models as steps of pipelines over the API."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import User
from market.models import Listing, Visibility
from tests.drive.factories import upload
from tests.market.factories import marks, model

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _marks() -> Iterator[None]:
    with marks():
        yield


@pytest.fixture
def client(user: User, api: Callable[..., APIClient]) -> APIClient:
    return api(user)


def post(client: APIClient, *steps: dict[str, Any], **more: Any) -> Any:
    return client.post("/v1/pipelines", {"title": "Two", "steps": list(steps), **more}, format="json")


def test_a_pipeline_with_a_model_is_created_read_and_updated(client: APIClient, user: User) -> None:
    model(user)
    address = f"{user.handle}/finder"
    answer = post(client, {"operation": "blackwhite"}, {"model": address, "params": {"confidence": 0.5}})
    assert answer.status_code == 201
    steps = answer.json()["steps"]
    assert steps[1] == {
        "name": "marks",
        "operation": "marks",
        "title": "Finder",
        "model": address,
        "version": 1,
        "available": True,
        "params": {"confidence": 0.5},
    }
    assert (steps[0]["model"], steps[0]["version"], steps[0]["available"]) == (None, None, True)
    # A new release changes nothing, nor does sending the same steps again.
    model(user, sure=(10, 5))
    path = f"/v1/pipelines/{user.handle}/two"
    wanted = ("operation", "model", "version", "params")
    back = [{name: step[name] for name in wanted} for step in steps]
    changed = client.patch(path, {"steps": back}, format="json").json()
    assert (changed["version"]["number"], changed["steps"]) == (1, steps)
    newer = client.patch(path, {"steps": [{"model": address}]}, format="json").json()
    assert (newer["version"]["number"], newer["steps"][0]["version"]) == (2, 2)


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({}, "steps"),
        ({"model": "finder"}, "steps"),
        ({"model": "a/b/c"}, "steps"),
        ({"operation": "blackwhite", "version": 1}, "steps"),
        ({"model": "ME/finder", "version": 0}, "steps"),
        ({"model": "ME/finder", "version": 9}, "model"),
        ({"model": "ME/ghost"}, "model"),
        ({"model": "ME/finder", "params": {"confidence": 7}}, "marks.confidence"),
        ({"operation": "marks"}, "marks"),
    ],
)
def test_bad_steps_are_named_and_nothing_is_created(
    step: dict[str, Any], field: str, client: APIClient, user: User
) -> None:
    model(user)
    if "model" in step:
        step = {**step, "model": step["model"].replace("ME", user.handle)}
    answer = post(client, step)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
    assert not Listing.objects.filter(kind="pipeline").exists()


def test_a_hidden_model_stops_the_pipeline_and_is_not_shown(
    client: APIClient, user: User, other_user: User
) -> None:
    finder = model(other_user, publish=True)
    post(client, {"model": f"{other_user.handle}/finder"})
    Listing.objects.filter(pk=finder.listing_id).update(visibility=Visibility.PRIVATE)
    step = client.get(f"/v1/pipelines/{user.handle}/two").json()["steps"][0]
    assert (step["model"], step["version"], step["available"]) == (None, None, False)
    body = {"model": f"{user.handle}/two", "files": [str(upload(user).pk)]}
    answer = client.post("/v1/jobs", body, format="json")
    assert (answer.status_code, answer.json()["type"]) == (422, "about:blank#model_gone")
    assert "Step 1 runs the model “Finder”, which is no longer available" in answer.json()["detail"]


def test_a_list_of_pipelines_with_models_takes_a_constant_number_of_queries(
    client: APIClient, user: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        model(user, f"m{number}")
        post(client, {"model": f"{user.handle}/m{number}"}, {"operation": "blackwhite"}, name=f"p{number}")
    with django_assert_max_num_queries(9):
        rows = client.get("/v1/pipelines").json()["results"]
    assert [row["steps"][0]["model"] for row in rows] == [f"{user.handle}/m{n}" for n in (4, 3, 2, 1, 0)]
