"""Jobs over the API: parameters for each image, options and quotes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from drive.files import services as drive
from drive.models import File
from market.models import Listing
from processing.models import Job
from tests.drive.factories import upload
from tests.processing.factories import take_turns
from tests.processing.fake_workers import stand_in

pytestmark = pytest.mark.django_db
MODEL = "ipau/blackwhite"


@pytest.fixture
def client(user: User, api: Callable[..., APIClient]) -> APIClient:
    return api(user)


def pictures(user: User, number: int) -> list[File]:
    return [upload(user, f"{n}.jpg", seed=n) for n in range(number)]


def post(client: APIClient, path: str = "/v1/jobs", **body: Any) -> Any:
    return client.post(path, {"model": MODEL, **body}, format="json")


def test_items_have_their_own_parameters(client: APIClient, user: User) -> None:
    first, _, third = pictures(user, 3)
    items = [{"file": str(third.pk)}, {"file": str(first.pk), "input": {"contrast": 30}}]
    answer = post(client, input={"contrast": 10}, items=items)
    assert answer.status_code == 201
    job = answer.json()
    assert (job["total"], job["price"], job["reused"]) == (2, {"quoted": 0, "charged": 0}, 0)
    take_turns(user)
    made = client.get(job["urls"]["items"]).json()["results"]
    assert {item["input_file"]: item["input"] for item in made} == {
        str(first.pk): {"contrast": 30},
        str(third.pk): None,
    }
    assert [item["status"] for item in made] == ["succeeded", "succeeded"]


def test_items_override_parameters_of_a_folder(client: APIClient, user: User) -> None:
    folder = drive.create_folder(owner=user, parent=None, name="Trip")
    files = [upload(user, f"{n}.jpg", folder=folder, seed=n) for n in range(3)]
    items = [{"file": str(files[1].pk), "input": {"contrast": 30}}]
    job = post(client, folder=str(folder.pk), items=items).json()
    assert job["total"] == 3
    made = client.get(job["urls"]["items"]).json()["results"]
    assert [item["input"] for item in made] == [None, {"contrast": 30}, None]


def test_options_are_returned_with_the_job(client: APIClient, user: User) -> None:
    at = timezone.now() + timedelta(hours=1)
    job = post(
        client,
        files=[str(pictures(user, 1)[0].pk)],
        output_format="PNG",
        output_quality=40,
        keep_folders=True,
        reuse=False,
        deadline_at=at.isoformat(),
        max_price=0,
        mail_when_done=True,
    ).json()
    assert job["options"] == {"format": "PNG", "quality": 40, "keep_folders": True, "reuse": False}
    assert (job["max_price"], job["ending"], job["again_of"]) == (0, "", None)
    stored = Job.objects.get()
    assert (stored.deadline_at, stored.mail_when_done) == (at, True)


def test_a_quote_returns_the_price_and_creates_nothing(client: APIClient, user: User) -> None:
    files = [str(file.pk) for file in pictures(user, 3)]
    Listing.objects.filter(name="blackwhite").update(price_each=1500)
    answer = post(client, "/v1/quotes", files=files)
    assert answer.status_code == 200
    quote = answer.json()
    assert (quote["total"], quote["price"], quote["price_each"]) == (3, 4500, 1500)
    assert (quote["seconds"], quote["queue"]) == (None, {"name": "cpu", "served": False})
    stand_in("cpu")
    assert post(client, "/v1/quotes", files=files).json()["seconds"] > 0
    assert post(client, "/v1/quotes", files=files, max_price=4499).status_code == 422
    assert not Job.objects.exists()


def test_a_job_above_its_maximum_price_is_rejected(client: APIClient, user: User) -> None:
    files = [str(file.pk) for file in pictures(user, 2)]
    Listing.objects.filter(name="blackwhite").update(price_each=1500)
    refused = post(client, files=files, max_price=2999)
    assert (refused.status_code, refused.json()["type"]) == (422, "about:blank#over_max_price")
    assert post(client, files=files, max_price=3000).json()["price"] == {"quoted": 3000, "charged": 0}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"items": []}, "files"),
        ({"items": [{"input": {}}]}, "items"),
        ({"items": [{"file": "x"}]}, "items"),
        ({"items": [{"file": "FIRST", "params": {}}]}, "items"),
        ({"items": [{"file": "FIRST", "input": {"contrast": 900}}]}, "row 1.contrast"),
        ({"items": [{"file": "FIRST", "input": {"size": 9}}]}, "row 1.size"),
        ({"items": [{"file": "FIRST"}, {"file": "FIRST"}]}, "row 2"),
        ({"files": ["FIRST"], "items": [{"file": "SECOND"}]}, "row 1"),
        ({"files": ["FIRST"], "output_format": "GIF"}, "output_format"),
        ({"files": ["FIRST"], "output_quality": 101}, "output_quality"),
        ({"files": ["FIRST"], "max_price": -1}, "max_price"),
        ({"files": ["FIRST"], "deadline_at": "2001-01-01T00:00:00Z"}, "deadline_at"),
        ({"files": ["FIRST"], "deadline_at": "soon"}, "deadline_at"),
        ({"files": ["FIRST"], "priority": 3}, "priority"),
    ],
)
def test_errors_name_the_field_and_nothing_runs(
    client: APIClient, user: User, body: dict[str, Any], named: str
) -> None:
    first, second = pictures(user, 2)

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner) for inner in value]
        return (
            {"FIRST": str(first.pk), "SECOND": str(second.pk)}.get(value, value)
            if isinstance(value, str)
            else value
        )

    for path in ("/v1/jobs", "/v1/quotes"):
        answer = post(client, path, **filled(body))
        assert answer.status_code == 422, answer.content
        assert named in answer.json()["errors"], answer.content
    assert not Job.objects.exists()


def test_too_many_items_are_rejected_first(client: APIClient) -> None:
    with override_settings(JOB_MAX_FILES=3):
        for named in ("items", "files"):
            answer = post(client, **{named: ["nonsense"] * 4})
            assert answer.status_code == 422
            assert answer.json()["errors"] == {named: "A job can have at most 3 images."}


def test_errors_of_rows_are_in_order(client: APIClient, user: User) -> None:
    first, second, third = (str(file.pk) for file in pictures(user, 3))
    wrong = [{"file": key, "input": {"contrast": 900}} for key in (third, first, second)]
    assert list(post(client, items=wrong).json()["errors"]) == [f"row {n}.contrast" for n in (1, 2, 3)]
    nowhere = "00000000-0000-4000-8000-000000000000"
    answer = post(client, items=[{"file": first}, {"file": nowhere}])
    assert answer.status_code == 404
    assert answer.json()["errors"] == {"row 2": f"Row 2: the file “{nowhere}” does not exist."}


def test_items_of_other_accounts_are_not_found(client: APIClient, other_user: User) -> None:
    theirs = upload(other_user)
    answer = post(client, items=[{"file": str(theirs.pk)}])
    assert (answer.status_code, list(answer.json()["errors"])) == (404, ["row 1"])
    assert post(client, "/v1/quotes", items=[{"file": str(theirs.pk)}]).status_code == 404


def test_an_idempotency_key_covers_all_items(client: APIClient, user: User) -> None:
    file = pictures(user, 1)[0]
    key = {"Idempotency-Key": "k"}

    def ask(contrast: int) -> Any:
        items = [{"file": str(file.pk), "input": {"contrast": contrast}}]
        return client.post("/v1/jobs", {"model": MODEL, "items": items}, format="json", headers=key)

    assert ask(1).json()["id"] == ask(1).json()["id"]
    assert ask(2).status_code == 409
