"""Position of waiting jobs and predictions in their queue, over the API."""

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from tests.drive.factories import upload
from tests.factories import UserFactory
from tests.processing.factories import submit, take_turns

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(user: User, api: Callable[..., APIClient]) -> APIClient:
    return api(user)


def predict(client: APIClient, user: User) -> dict[str, Any]:
    body = {"input": {"image": str(upload(user, "one.jpg", seed=99).pk)}}
    answer = client.post("/v1/models/ipau/blackwhite/predictions", body, format="json")
    assert answer.status_code == 201
    found: dict[str, Any] = answer.json()
    return found


def test_a_waiting_prediction_has_a_position(client: APIClient, user: User) -> None:
    assert predict(client, user)["place"] == {"before": 0, "others": 0}
    submit(user, [upload(user, f"{n}.jpg", seed=n) for n in range(3)])
    for _ in range(2):
        other = UserFactory()
        submit(other, [upload(other)])
    prediction = predict(client, user)
    path = f"/v1/predictions/{prediction['id']}"
    assert client.get(path).json()["place"] == {"before": 4, "others": 2}
    assert [row["place"] for row in client.get("/v1/predictions").json()["results"]] == [None, None]
    take_turns(user)
    assert client.get(path).json()["place"] is None


def test_a_waiting_job_has_a_position(client: APIClient, user: User) -> None:
    submit(user, [upload(user, "first.jpg")])
    job = submit(user, [upload(user, "second.jpg", seed=2)])
    path = f"/v1/jobs/{job.pk}"
    assert client.get(path).json()["place"] == {"before": 1, "others": 0}
    assert [row["place"] for row in client.get("/v1/jobs").json()["results"]] == [None, None]
    take_turns(user)
    assert client.get(path).json()["place"] is None
